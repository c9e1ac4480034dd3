"""Two models: a student and the teacher that it is kept near to, layer by layer."""
