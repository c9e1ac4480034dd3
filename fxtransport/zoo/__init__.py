"""The zoo: compile every model of a list, in worker processes, and say what came of each."""
