"""A detector beside its model, as a library: fitted, saved, loaded, asked and tested."""
