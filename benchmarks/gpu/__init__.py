"""Everything that a GPU has to show, in one call and a given time: ``python -m benchmarks.gpu``; see docs/gpu-run.md."""
