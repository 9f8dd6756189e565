"""Kernels: one file for each operation, with its plain-torch twin as the specification."""
