"""The compiler's passes: a file per pass, what one is in ``base``, the manager in ``pipeline``."""
