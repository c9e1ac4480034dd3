"""A fuzzer: small modules out of a grammar of Python, compiled and compared with eager.

``rules`` and ``statements`` are the grammar, ``library`` what its programs may use, ``grammar``
writes a program from a seed, ``judge`` compiles one and compares it, ``worker`` judges many, each
in a process of its own, and ``running`` starts workers and counts.
"""
