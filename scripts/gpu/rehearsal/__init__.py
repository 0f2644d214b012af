"""What stands in for a GPU where the report's programs are tried out."""
