"""Tools for developers: compile gates, tuning. Nothing here is imported at run time."""

from __future__ import annotations

# Bytes of shared memory that one block may have, by compute capability (CUDA programming guide, compute capabilities).
SHARED_LIMIT = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}
