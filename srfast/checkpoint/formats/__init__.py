"""File formats of checkpoints: from a file to named tensors, without running any of its code."""
