"""The compiler's passes: a file per pass, what one is in ``base``, the manager in ``pipeline``.

The options of programs are declared once, as fields of passes. The command line reads them to
say what its options are, and must answer ``--help`` at once. So ``base``, ``pipeline`` and the
passes that declare such options import torch, numpy and timm inside functions only, as does
what these modules import themselves.
"""
