"""The compiler's passes: a file per pass, the pass's contract in ``base``, the manager in
``pipeline``."""
