"""The fused tail against two launches and a float64 sum, at every border of image, strip and pass."""

from __future__ import annotations

import pytest
import torch

from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import conv_launch
from srfast.kernels.cuda.pack import pack_conv
from srfast.kernels.cuda.tail import pack_tail, strip_rows, tail_bytes, tail_launch
from tests.helpers.cuda.problems import BRAIN, HALF, canvas_of, numbers
from tests.helpers.cuda.tails import Tail, check_few, check_frames

pytestmark = pytest.mark.usefixtures("emulated_cuda")


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
    check_few(form, size, dtype, kind)


@pytest.mark.parametrize("form", ["tail", "tail_wgmma"])
def test_frames_of_two_images(form: str) -> None:
    check_frames(form)


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
    for kernel in (1, 7):
        with pytest.raises(ValueError, match=f"3x3 or 5x5 on Hopper, not {kernel}x{kernel}"):
            tail_bytes(pack_conv(torch.zeros(9, 64, kernel, kernel), torch.zeros(9)), "tail_wgmma")


@pytest.mark.parametrize(("form", "columns", "height"), [("tail_wide", 32, 8), ("tail_wgmma", 56, 4)])
def test_strips_fill_the_chip(form: str, columns: int, height: int) -> None:
    rows = strip_rows(1, 540, 960, 5, form, 132)
    assert (rows + 4) % height == 0
    strips = -(-960 // (columns - 4)) * -(-540 // rows)
    assert strips / 132 / -(-strips // 132) > 0.85
