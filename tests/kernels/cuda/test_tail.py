"""The fused tail against two launches and a float64 sum, at every border of image, strip and pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import conv_launch
from srfast.kernels.cuda.pack import CudaConv, pack_conv
from srfast.kernels.cuda.tail import CudaTail, pack_tail, strip_rows, tail_launch
from srfast.kernels.reference import conv_reference
from srfast.kernels.targets import FrameTarget
from tests.helpers.cuda.problems import BRAIN, HALF, canvas_of, numbers, problem

pytestmark = pytest.mark.usefixtures("emulated_cuda")


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


@pytest.mark.parametrize(
    ("size", "middle", "kernel", "out", "shuffle", "dtype", "act", "form", "rows"),
    [
        ((1, 1), 64, 5, 12, 2, HALF, "prelu", "tail", 12),
        ((13, 17), 128, 5, 12, 2, HALF, "prelu", "tail", 4),
        ((11, 29), 64, 3, 12, 2, BRAIN, "none", "tail", None),
        ((23, 13), 64, 7, 9, 3, HALF, "prelu", "tail", 10),
        ((9, 29), 256, 5, 12, 2, HALF, "prelu", "tail_wide", 12),
        ((5, 31), 64, 3, 3, 1, BRAIN, "prelu", "tail_wide", None),
        ((1, 1), 64, 5, 12, 2, HALF, "prelu", "tail_wgmma", None),
        ((13, 53), 128, 5, 12, 2, HALF, "prelu", "tail_wgmma", 4),
        ((6, 109), 64, 3, 12, 2, BRAIN, "none", "tail_wgmma", 6),
        ((9, 52), 256, 5, 12, 2, BRAIN, "prelu", "tail_wgmma", 12),
    ],
)
def test_parity(
    size: tuple[int, int],
    middle: int,
    kernel: int,
    out: int,
    shuffle: int,
    dtype: torch.dtype,
    act: str,
    form: str,
    rows: int | None,
) -> None:
    tail = Tail(size, middle, kernel, out, shuffle, dtype, act)
    first, second, fused = tail.packed()
    between = Canvas.allocate(1, middle, *size, dtype=dtype)
    apart, together = (Canvas.allocate(1, tail.shape[1], *tail.shape[2:], dtype=dtype) for _ in range(2))
    conv_launch(tail.x, first, between)()
    conv_launch(between, second, apart)()
    tail_launch(tail.x, fused, together, form=form, rows=rows)()
    exact = tail.exact()
    step = torch.finfo(dtype).eps * float(exact.abs().max())
    assert float((together.nchw().double() - exact).abs().max()) <= step
    assert float((together.nchw().float() - apart.nchw().float()).abs().max()) <= step


@pytest.mark.parametrize("form", ["tail", "tail_wgmma"])
def test_residual_gain_and_clamp(form: str) -> None:
    tail = Tail((10, 14), 64, 5, 12, 2, HALF, "prelu")
    residual = numbers(1, 3, 20, 28, seed=7).half()
    epilogue = {"gain": 0.5, "clamp": (-0.5, 1.0)}
    *_, fused = tail.packed(**epilogue)
    out = Canvas.allocate(*tail.shape)
    tail_launch(tail.x, fused, out, canvas_of(residual), form=form)()
    expected = tail.exact(residual=residual.double(), **epilogue)
    assert float((out.nchw().double() - expected).abs().max()) <= torch.finfo(HALF).eps * 2


@pytest.mark.parametrize(
    ("form", "size", "dtype", "kind"),
    [
        ("tail_wgmma", (6, 57), HALF, torch.uint16),
        ("tail_wgmma", (6, 57), BRAIN, torch.uint8),
        ("tail_wgmma", (6, 57), HALF, None),
        ("tail", (5, 14), HALF, torch.uint16),
        ("tail", (9, 1), BRAIN, None),
        ("tail", (1, 25), BRAIN, torch.uint8),
    ],
)
def test_known_sizes_have_the_bits_of_the_general_ending(
    form: str, size: tuple[int, int], dtype: torch.dtype, kind: torch.dtype | None
) -> None:
    """A residual of zeros changes nothing, but only the general ending takes one."""
    tail = Tail(size, 64, 5, 12, 2, dtype, "prelu")
    *_, fused = tail.packed(gain=0.7, clamp=(-0.9, 0.9))
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


@pytest.mark.parametrize("form", ["tail", "tail_wgmma"])
def test_frames_of_two_images(form: str) -> None:
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


def test_others_are_refused() -> None:
    tail = Tail((3, 3), 64, 5, 12, 2, HALF, "prelu")
    first, second, fused = tail.packed()
    with pytest.raises(ValueError, match="5 x 16"):
        pack_tail(first, pack_conv(torch.zeros(16, 64, 5, 5), torch.zeros(16)), torch.zeros(16, 64, 5, 5))
    with pytest.raises(ValueError, match="3x3 of 64 channels, not 3x3 of 32"):
        pack_tail(pack_conv(torch.zeros(64, 32, 3, 3), torch.zeros(64)), second, tail.other["weight"])
    with pytest.raises(ValueError, match=r"weight is \[12, 64, 3, 3\]"):
        pack_tail(first, second, tail.other["weight"][..., :3, :3])
    with pytest.raises(ValueError, match="cannot be their input"):
        tail_launch(tail.x, fused, tail.x)
    seven = Tail((3, 3), 64, 7, 9, 3, HALF, "prelu")
    with pytest.raises(ValueError, match="3x3 or 5x5, not 7x7"):
        tail_launch(seven.x, seven.packed()[2], Canvas.allocate(*seven.shape), form="tail_wgmma")


@pytest.mark.parametrize(("form", "columns", "height"), [("tail_wide", 32, 8), ("tail_wgmma", 56, 4)])
def test_strips_fill_the_chip(form: str, columns: int, height: int) -> None:
    rows = strip_rows(1, 540, 960, 5, form, 132)
    assert (rows + 4) % height == 0
    strips = -(-960 // (columns - 4)) * -(-540 // rows)
    assert strips / 132 / -(-strips // 132) > 0.85
