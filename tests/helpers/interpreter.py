"""Matrix products of Triton's interpreter that are the same bits on every CPU.

The interpreter multiplies with NumPy, whose BLAS orders a sum by the shapes of the matrices and by the CPU. GPUs add in one
order whatever the tile, which is what tests of equal bits rely on. Products of half-precision numbers and their sums are
exact in float64, so that no order shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np


@contextmanager
def exact_products() -> Iterator[None]:
    """Make ``tl.dot`` add exactly and round once, where the interpreter is in use."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        yield
        return
    from triton.runtime import interpreter

    def create_dot(self: Any, a: Any, b: Any, d: Any, *precision: Any) -> Any:
        with np.errstate(invalid="ignore"):  # infinite values make NaN here as they do on a GPU
            total = np.matmul(a.data.astype(np.float64), b.data.astype(np.float64)) + d.data
        return interpreter.TensorHandle(total.astype(d.data.dtype), d.dtype.scalar)

    with mock.patch.object(interpreter.InterpreterBuilder, "create_dot", create_dot):
        yield
