"""Readers of weights: from the keys of a checkpoint to a module of ``srfast.models``, a family a file."""
