"""What is said of a program: summaries, tables, graphs as text, Graphviz."""
