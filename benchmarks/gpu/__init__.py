"""Asks a GPU everything that cannot be shown without one: ``python -m benchmarks.gpu``; see docs/gpu-run.md."""
