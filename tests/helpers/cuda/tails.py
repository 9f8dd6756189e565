"""Tails of networks with random weights, and checks of how they end, for the tests of the kernels and those of planted faults."""

from __future__ import annotations

import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.pack import CudaConv, pack_conv
from srfast.kernels.cuda.tail import CudaTail, pack_tail, tail_launch
from srfast.kernels.reference import conv_reference
from srfast.kernels.targets import FrameTarget
from tests.helpers.cuda.problems import HALF, canvas_of, numbers, problem


class Tail:
    """Two convolutions with random weights, and an image for them."""

    def __init__(
        self, size: tuple[int, int], middle: int, kernel: int, out: int, shuffle: int, dtype: torch.dtype, act: str
    ) -> None:
        self.shape = (1, out // shuffle**2, size[0] * shuffle, size[1] * shuffle)
        self.given, self.other = (
            problem(64, middle, 3, *size, dtype=dtype),
            problem(middle, out, kernel, 1, 1, dtype=dtype),
        )
        self.slope = numbers(middle, seed=4) if act == "prelu" else None
        self.act, self.shuffle, self.dtype, self.x = act, shuffle, dtype, canvas_of(self.given["x"], dtype)

    def packed(self, **epilogue: object) -> tuple[CudaConv, CudaConv, CudaTail]:
        g, o = self.given, self.other
        first = pack_conv(g["weight"], g["bias"], act=self.act, slope=self.slope, dtype=self.dtype)
        second = pack_conv(o["weight"], o["bias"], shuffle=self.shuffle, dtype=self.dtype, **epilogue)  # type: ignore[arg-type]
        return first, second, pack_tail(first, second, o["weight"])

    def exact(self, **epilogue: object) -> Tensor:
        """In float64, but for what lies between."""
        g, o = ({k: v.double() for k, v in values.items()} for values in (self.given, self.other))
        slope = None if self.slope is None else self.slope.double()
        between = conv_reference(g["x"], g["weight"], g["bias"], act=self.act, slope=slope).to(self.dtype).double()  # type: ignore[arg-type]
        return conv_reference(between, o["weight"], o["bias"], shuffle=self.shuffle, **epilogue)  # type: ignore[arg-type]


def check_few(form: str, size: tuple[int, int], dtype: torch.dtype, kind: torch.dtype | None) -> None:
    """The ending of known sizes has the bits of the general one; ``kind``: of frames, None for a canvas."""
    tail = Tail(size, 64, 5, 12, 2, dtype, "prelu")
    *_, fused = tail.packed(gain=0.7, clamp=(-0.9, 0.9))
    # A residual of zeros changes nothing, but only the general ending takes one.
    zeros = canvas_of(torch.zeros(tail.shape), dtype)
    results = []
    for residual in (None, zeros):
        frame = torch.full((1, *tail.shape[2:], 3), 7, dtype=kind or torch.uint8)
        flag = torch.zeros(1, dtype=torch.int32)
        out = canvas_of(torch.ones(tail.shape), dtype)
        tail_launch(tail.x, fused, FrameTarget(frame, 1.0, flag) if kind else out, residual, form=form, rows=4)()
        assert int(flag) == 0
        results.append(frame.int() if kind else out.nchw())
    assert torch.equal(results[0], results[1])
    assert len(results[0].unique()) > 40


def check_frames(form: str) -> None:
    """Frames of two images are as they should be, and what is not finite is told."""
    tail = Tail((7, 15), 64, 5, 12, 2, HALF, "prelu")
    x = Canvas.allocate(2, 64, 7, 15)
    x.nchw().copy_(torch.cat([tail.given["x"], tail.given["x"].flip(3)]))
    *_, fused = tail.packed()
    frame, flag = torch.zeros(2, 14, 30, 3, dtype=torch.uint8), torch.zeros(1, dtype=torch.int32)
    tail_launch(x, fused, FrameTarget(frame, 1.0, flag), form=form)()
    expected = (tail.exact() * 255).round().clamp(0, 255).permute(0, 2, 3, 1)
    assert float((frame[:1].double() - expected).abs().max()) <= 1
    assert int(flag) == 0
    x.nchw()[1, 0, 3, 3] = float("inf")
    tail_launch(x, fused, FrameTarget(frame, 1.0, flag), form=form)()
    assert int(flag) == 1
