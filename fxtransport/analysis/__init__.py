"""What the analyses ask: dataflow, layouts, places to cut, and the best cuts of a line."""
