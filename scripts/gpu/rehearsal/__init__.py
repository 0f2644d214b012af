"""What stands in for a GPU machine when the report is rehearsed without one."""
