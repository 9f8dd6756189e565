"""Checks of how convolutions end, for the tests of the kernels and those of faults planted in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda import Launch
from srfast.kernels.cuda.conv import conv_launch
from srfast.kernels.cuda.pack import Variant, pack_conv
from srfast.kernels.cuda.pair import pair_launch
from srfast.kernels.reference import conv_reference
from srfast.kernels.targets import PEAKS, FrameTarget
from tests.helpers.cuda.problems import BRAIN, HALF, canvas_of, numbers, problem

EPS = {HALF: 2.0**-10, BRAIN: 2.0**-7}
# Output channels and what follows them; each wants the general ending for one reason.
GENERAL: tuple[tuple[int, dict[str, Any]], ...] = (
    (64, {"act": "tanh"}),
    (64, {"gain": 0.5}),
    (64, {"clamp": (-0.5, 0.5)}),
    (64, {"clamp": (-0.5, 0.5), "residual": True}),
    (64, {"shuffle": 2}),
    (256, {"shuffle": 2, "residual": True, "residual_up": 2}),
    (48, {"shuffle": 4, "act": "tanh"}),
    (48, {"shuffle": 4, "residual": True}),
    (48, {"shuffle": 2}),
)
LIMITLESS = (-1e4, 1e4)  # a clamp that limits nothing changes nothing, but only the general ending has one


def check_close(out: Canvas, expected: Tensor) -> None:
    """The rounding of the result apart, ``out`` is as expected, and nothing beside it was written."""
    error = (out.nchw().float() - expected).abs()
    allowed = EPS[out.data.dtype] * (expected.abs() + 1) / 2 + 2e-6
    assert bool((error <= allowed).all()), f"largest error {float(error.max())}"
    untouched = out.data.clone()
    replace(out, data=untouched).nchw().zero_()
    assert not bool(untouched.any()), "wrote beside the image"


def check_conv(
    given: dict[str, Tensor], dtype: torch.dtype = HALF, variant: Variant | None = None, **options: Any
) -> None:
    """Kernel and twin agree to the rounding of the result."""
    residual = options.pop("residual", None)
    up = options.pop("residual_up", 1)
    expected = conv_reference(given["x"], given["weight"], given["bias"], **options)
    residual_canvas = None
    if residual is not None:
        small = numbers(expected.shape[0], expected.shape[1], expected.shape[2] // up, expected.shape[3] // up, seed=3)
        small = small.to(dtype).float()
        residual_canvas = canvas_of(small, dtype, border=8)
        large = small.repeat_interleave(up, 2).repeat_interleave(up, 3)
        expected = conv_reference(given["x"], given["weight"], given["bias"], residual=large, **options)
    packed = pack_conv(given["weight"], given["bias"], variant=variant, dtype=dtype, **options)
    out = canvas_of(torch.full(expected.shape, 99.0), dtype)
    conv_launch(canvas_of(given["x"], dtype), packed, out, residual_canvas)()
    check_close(out, expected)


def check_ending(
    variant: Variant,
    size: tuple[int, int],
    images: int,
    dtype: torch.dtype,
    prelu: bool,
    residual: bool,
    shuffle: int,
    launch: Callable[..., Launch] = conv_launch,
) -> None:
    """A special ending has the bits of the general one, and the reference's values; ``launch``: of which kernel."""
    given = problem(64, 64 * shuffle**2, 3, *size, dtype=dtype, images=images)
    options: dict[str, Any] = {"act": "prelu", "slope": numbers(64 * shuffle**2, seed=4)} if prelu else {}
    options |= {"shuffle": shuffle} | ({"gain": 0.3} if residual else {})
    shape = (images, 64, size[0] * shuffle, size[1] * shuffle)
    added = canvas_of(numbers(*shape, seed=3), dtype, border=2) if residual else None
    outs = []
    for clamp in (None, LIMITLESS):
        packed = pack_conv(given["weight"], given["bias"], variant=variant, dtype=dtype, clamp=clamp, **options)
        outs.append(canvas_of(torch.full(shape, 99.0), dtype, border=2))
        launch(canvas_of(given["x"], dtype), packed, outs[-1], added)()
    assert torch.equal(outs[0].data, outs[1].data)
    check_close(
        outs[0],
        conv_reference(
            given["x"], given["weight"], given["bias"], residual=added.nchw().float() if added else None, **options
        ),
    )


def check_phases(
    size: tuple[int, int], images: int, dtype: torch.dtype, kind: torch.dtype | None, residual: bool
) -> None:
    """48 channels as 4x4 pixels have the bits of the general ending and the reference's values; ``kind``: of frames, or None."""
    given = problem(64, 48, 3, *size, dtype=dtype, images=images)
    # A clamp would make infinite values finite, which frames have to tell of.
    options: dict[str, Any] = {"shuffle": 4, "gain": 0.7, "clamp": None if kind else (-0.9, 1.2)}
    small = canvas_of(numbers(images, 3, *size, seed=3), dtype, border=2) if residual else None
    large = None if small is None else small.nchw().float().repeat_interleave(4, 2).repeat_interleave(4, 3)
    expected = conv_reference(given["x"], given["weight"], given["bias"], residual=large, **options)
    outs = []
    # A PReLU of slope 1 changes nothing, but only the general ending has one.
    for act in ({}, {"act": "prelu", "slope": torch.ones(1)}):
        packed = pack_conv(given["weight"], given["bias"], dtype=dtype, **options, **act)  # type: ignore[arg-type]
        frame = torch.full((images, 4 * size[0], 4 * size[1], 3), 7, dtype=kind or torch.uint8)
        out, flag = canvas_of(torch.full(expected.shape, 99.0), dtype, border=2), torch.zeros(1, dtype=torch.int32)
        x = canvas_of(given["x"], dtype)
        target = FrameTarget(frame, 1.0, flag) if kind else out
        conv_launch(x, packed, target, small)()
        assert int(flag) == 0
        outs.append(frame.int().clone() if kind else out.data)
        if kind:
            x.nchw()[-1, 0, -1, -1] = float("inf")
            conv_launch(x, packed, target, small)()
            assert int(flag) == 1
    assert torch.equal(outs[0], outs[1])
    if kind is None:
        check_close(out, expected)
    else:
        levels = (expected * PEAKS[kind]).round().clamp(0, PEAKS[kind]).permute(0, 2, 3, 1)
        assert float((outs[0] - levels).abs().max()) <= 1 + PEAKS[kind] * EPS[dtype] / 100


def check_pair_ending(size: tuple[int, int], images: int, dtype: torch.dtype, prelu: bool, residual: bool) -> None:
    """Two fused convolutions with a special ending have the bits of the general one and of two launches."""
    given = problem(64, 64, 3, *size, dtype=dtype, images=images)
    first = pack_conv(given["weight"], given["bias"], act="prelu", slope=numbers(64, seed=4), dtype=dtype)
    options: dict[str, Any] = {"act": "prelu", "slope": numbers(64, seed=6)} if prelu else {}
    options |= {"gain": 0.5} if residual else {}
    x = canvas_of(given["x"], dtype)
    added = x if residual else None
    middle, apart = (Canvas.allocate(images, 64, *size, dtype=dtype) for _ in range(2))
    outs = []
    for clamp in (None, LIMITLESS):
        second = pack_conv(given["weight"].flip(0), given["bias"], dtype=dtype, clamp=clamp, **options)
        outs.append(canvas_of(torch.full((images, 64, *size), 99.0), dtype, border=2))
        pair_launch(x, first, second, outs[-1], added)()
    conv_launch(x, first, middle)()
    conv_launch(middle, second, apart, added)()
    assert torch.equal(outs[0].data, outs[1].data)
    assert torch.equal(outs[0].nchw(), apart.nchw())
    between = middle.nchw().float()
    check_close(
        outs[0],
        conv_reference(
            between, given["weight"].flip(0), given["bias"], residual=given["x"] if residual else None, **options
        ),
    )
