"""The native twins, in C: ``speedups`` is there when it could be built. ``accelerated.py`` tells."""
