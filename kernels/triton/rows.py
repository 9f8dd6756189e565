"""How the programs of a kernel share the rows of images."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def part_of_row(rows, width, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """A part of one row for the program (image and row, part).

    Returns:
        image as int64 and y; then of BLOCK values x, channel, and whether there is such a value.
    """
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = index // CHANNELS
    return (tl.program_id(0) // rows).to(tl.int64), tl.program_id(0) % rows, x, index % CHANNELS, x < width
