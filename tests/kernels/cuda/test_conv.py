"""The CUDA convolutions against plain torch, their sources compiled for the host over the emulation layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import conv_launch
from srfast.kernels.cuda.pack import VARIANTS, Variant, choose_variant, pack_conv
from srfast.kernels.reference import conv_reference
from srfast.kernels.targets import FrameTarget
from tests.helpers.cuda.endings import GENERAL, check_conv, check_ending, check_phases
from tests.helpers.cuda.problems import BRAIN, HALF, canvas_of, numbers, problem

pytestmark = pytest.mark.usefixtures("emulated_cuda")


@pytest.mark.parametrize("dtype", [HALF, BRAIN])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (8, 16), (9, 17)])
def test_hot(size: tuple[int, int], dtype: torch.dtype) -> None:
    """3x3, 64 channels, with every border inside or beside a tile."""
    check_conv(problem(64, 64, 3, *size, dtype=dtype), dtype, act="prelu", slope=numbers(64, seed=4))


def test_larger_tile() -> None:
    check_conv(problem(64, 64, 3, 17, 5, images=2), variant=Variant(64, 64, 3, 16, 16), residual=True, gain=0.2)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("size", "images", "dtype", "kind"),
    [
        ((1, 1), 2, HALF, None),
        ((9, 17), 1, BRAIN, None),
        ((7, 19), 2, HALF, torch.uint8),
        ((1, 16), 1, BRAIN, torch.uint8),
        ((8, 3), 1, HALF, torch.uint16),
    ],
)
def test_48_channels_as_pixels(
    size: tuple[int, int], images: int, dtype: torch.dtype, kind: torch.dtype | None, residual: bool
) -> None:
    check_phases(size, images, dtype, kind, residual)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if not v.pixel_stride and v.kernel == 0], ids=str)
def test_every_variant(variant: Variant) -> None:
    """Blocks that the channels do not fill, and a second block of each."""
    channels, out = variant.block_c + 16, variant.block_o + 5
    check_conv(problem(channels, out, 3, 3, 18), variant=variant, act="prelu", slope=numbers(1, seed=4))


@pytest.mark.parametrize(("channels", "kernel"), [(12, 3), (9, 1), (20, 5), (75, 3)])
def test_channels_that_fill_no_chunk(channels: int, kernel: int) -> None:
    """Pixels have whole blocks of 16 in memory, so the last chunk of 8 is read with the zeros behind the channels."""
    check_conv(problem(channels, 40, kernel, 9, 19, images=2), act="prelu", slope=numbers(40, seed=4))


@pytest.mark.parametrize("kernel", [1, 5, 9])
def test_kernels(kernel: int) -> None:
    check_conv(problem(128, 16, kernel, 5, 3))


@pytest.mark.parametrize(("channels", "kernel"), [(3, 9), (3, 3), (1, 5), (8, 3), (6, 5)])
def test_few_channels(channels: int, kernel: int) -> None:
    check_conv(problem(channels, 40, kernel, 9, 19, images=2), act="prelu", slope=numbers(40, seed=4))


@pytest.mark.parametrize(
    "options",
    [
        {"act": "tanh"},
        {"act": "sigmoid", "gain": 3.0},
        {"shuffle": 2, "act": "prelu", "slope": numbers(64, seed=4)},
        {"shuffle": 2, "residual": True, "gain": 0.5},
        {"shuffle": 4, "residual": True, "residual_up": 4},
        {"shuffle": 2, "residual": True, "residual_up": 2, "clamp": (-0.5, 0.5)},
        {"residual": True, "clamp": (0.0, 1.0)},
    ],
    ids=str,
)
def test_epilogue(options: dict[str, Any]) -> None:
    check_conv(problem(16, 64, 3, 9, 6), **options)


@pytest.mark.parametrize("variant", [Variant(64, 64, 3), Variant(64, 64, 3, 16, 16)], ids=["8x16", "16x16"])
@pytest.mark.parametrize(
    ("size", "images", "dtype", "prelu", "residual", "shuffle"),
    [
        ((1, 1), 3, HALF, True, True, 1),
        ((1, 35), 1, BRAIN, False, True, 1),
        ((19, 9), 2, HALF, True, False, 1),
        ((17, 33), 1, BRAIN, True, True, 1),
        ((9, 18), 1, HALF, False, True, 2),
        ((10, 17), 1, BRAIN, True, False, 2),
        ((18, 7), 1, HALF, False, False, 1),
    ],
)
def test_endings_have_the_bits_of_the_general_one(
    variant: Variant,
    size: tuple[int, int],
    images: int,
    dtype: torch.dtype,
    prelu: bool,
    residual: bool,
    shuffle: int,
) -> None:
    check_ending(variant, size, images, dtype, prelu, residual, shuffle)


@pytest.mark.parametrize(("out", "options"), GENERAL, ids=str)
def test_what_no_special_ending_does(out: int, options: dict[str, Any]) -> None:
    """Of the kernel that has special endings: each condition for these alone."""
    check_conv(problem(64, out, 3, 5, 9), **options)


def test_residual_in_place() -> None:
    """The result takes the residual's place, as in a residual block; several blocks of input channels."""
    given = problem(128, 64, 3, 11, 19)
    residual = numbers(1, 64, 11, 19, seed=3)
    canvas = canvas_of(residual)
    packed = pack_conv(given["weight"], given["bias"])
    conv_launch(canvas_of(given["x"]), packed, canvas, canvas)()
    expected = conv_reference(given["x"], given["weight"], given["bias"], residual=residual.half().float())
    torch.testing.assert_close(canvas.nchw().float(), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_frames(dtype: torch.dtype) -> None:
    given = problem(64, 12, 5, 6, 9)
    packed = pack_conv(given["weight"], given["bias"], shuffle=2)
    frame, flag = torch.zeros(1, 12, 18, 3, dtype=dtype), torch.zeros(1, dtype=torch.int32)
    conv_launch(canvas_of(given["x"]), packed, FrameTarget(frame, 2.0, flag))()
    peak = 255 if dtype == torch.uint8 else 65535
    exact = conv_reference(given["x"], given["weight"], given["bias"], shuffle=2).permute(0, 2, 3, 1) * (peak / 2)
    assert int((frame.int() - exact.round().clamp(0, peak).int()).abs().max()) <= 1
    assert int(flag) == 0
    given["x"][0, 0, 3, 3] = float("nan")
    conv_launch(canvas_of(given["x"]), packed, FrameTarget(frame, 2.0, flag))()
    assert int(flag) == 1


def test_results_do_not_depend_on_position() -> None:
    """The same pixels elsewhere in the image give the same bits."""
    given = problem(64, 64, 3, 12, 20)
    packed = pack_conv(given["weight"], given["bias"])
    whole, part = canvas_of(given["x"]), canvas_of(given["x"][..., 3:, 5:])
    outs = [canvas_of(torch.zeros(x.nchw().shape)) for x in (whole, part)]
    for x, out in zip((whole, part), outs, strict=True):
        conv_launch(x, packed, out)()
    assert torch.equal(outs[0].nchw()[..., 4:, 6:], outs[1].nchw()[..., 1:, 1:])


def test_channel_slices() -> None:
    """Input, residual and output in parts of wider canvases (dense blocks)."""
    given = problem(48, 32, 3, 5, 7)
    wide = Canvas.allocate(1, 128, 5, 7)
    wide.data.fill_(7.0)
    x, out = wide.channel_slice(16, 48), wide.channel_slice(64, 32)
    x.nchw().copy_(given["x"])
    conv_launch(x, pack_conv(given["weight"], given["bias"]), out)()
    torch.testing.assert_close(out.nchw().float(), conv_reference(**given), rtol=1e-3, atol=1e-3)
    assert bool((wide.channel_slice(0, 16).nchw() == 7).all() and (wide.channel_slice(96, 32).nchw() == 7).all())


def test_choice() -> None:
    assert choose_variant(64, 64, 3) == Variant(64, 64, 3)
    assert choose_variant(160, 32, 3) == Variant(32, 32)
    assert choose_variant(256, 12, 5) == Variant(64, 16)
    assert choose_variant(3, 64, 9) == Variant(16, 32, pixel_stride=4)


def test_wrong_arguments() -> None:
    given = problem(64, 64, 3, 4, 4)
    packed = pack_conv(given["weight"], given["bias"])
    x, out = canvas_of(given["x"]), canvas_of(given["x"])
    thin, small = canvas_of(given["x"][:, :32]), canvas_of(given["x"][..., 1:])
    with pytest.raises(ValueError, match="reads 64 channels"):
        conv_launch(thin, packed, out)
    with pytest.raises(ValueError, match="the output canvas is"):
        conv_launch(x, packed, small)
    wide = Canvas.allocate(1, 80, 4, 4)
    with pytest.raises(ValueError, match="multiples of 16 bytes"):
        conv_launch(wide.channel_slice(4, 64), packed, out)
    # Twelve channels at the end of a pixel of sixteen: the four behind them are none of its own.
    twelve = pack_conv(given["weight"][:, :12], given["bias"])
    with pytest.raises(ValueError, match="reads 16 channels at a time"):
        conv_launch(Canvas.allocate(1, 16, 4, 4).channel_slice(4, 12), twelve, out)
    other = canvas_of(given["x"], BRAIN)
    with pytest.raises(ValueError, match="weights are"):
        conv_launch(other, packed, out)
    with pytest.raises(ValueError, match="does not run"):
        pack_conv(given["weight"], given["bias"], variant=Variant(64, 64, 5))
