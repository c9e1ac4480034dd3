"""A run of training: its configuration, what is built from it, and how it is loaded."""
