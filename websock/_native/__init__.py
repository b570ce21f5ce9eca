"""The native twins, in C: ``speedups`` is there when it could be built. ``core/accelerate.py`` picks."""
