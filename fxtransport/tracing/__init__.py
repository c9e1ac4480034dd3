"""Record and trace a forward pass: what runs, in which module, and what it decides by."""
