"""Measurements: the suite (``make bench``), its records, the report (``make bench-report``) and the GPU run in one call."""
