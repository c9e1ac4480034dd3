"""A run of training on the command line: its configuration, its parts, and what it shows."""
