"""Reports on models and programs: summaries, tables, and graphs as text or Graphviz."""
