"""Stand-ins for a machine with a GPU, for rehearsals of the report."""
