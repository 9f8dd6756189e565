"""MoSR, as its own program, neosr and traiNNer-redux write it."""

from __future__ import annotations

from srfast.checkpoint.recipe import Architecture, Hints, Layout, Recipe, Row, StateDict, chain_of_blocks, shape, side
from srfast.errors import CheckpointError
from srfast.models.mosr import MoSR

_ENSEMBLE = 8  # pictures that the upsampling called geo-ensemble averages


def read_mosr(state: StateDict, hints: Hints) -> Recipe:
    """``gblocks.N``, ``shortcut``, ``upsampler``: a pixel shuffle, the mean of eight of them (one convolution), or DySample."""
    own = dict(state)
    for part in ("weight", "bias"):
        many = own.pop(f"upsampler.in_to_k.{part}", None)
        if many is not None:
            if many.shape[0] % _ENSEMBLE:
                raise CheckpointError(f"upsampler.in_to_k has {many.shape[0]} channels, not a multiple of {_ENSEMBLE}")
            # The mean of eight convolutions of one input is the convolution with the mean of their weights.
            mean = many.double().reshape(_ENSEMBLE, -1, *many.shape[1:]).mean(0)
            own[f"upsampler.0.{part}"] = mean.to(many.dtype)
    chain = chain_of_blocks(own, "gblocks.0.weight", "gblocks.{}.fc1.weight")
    inner, convolved = shape(own, "gblocks.1.fc1.weight"), shape(own, "gblocks.1.conv.weight")
    dysample = 4 if "upsampler.init_pos" in own else 0
    if dysample:
        planes = shape(own, "upsampler.end_conv.weight")[0]
        upscale = side("upsampler.offset", shape(own, "upsampler.offset.weight")[0] / (2 * dysample))
    else:
        planes = chain["num_in_ch"]
        upscale = side("upsampler.0", shape(own, "upsampler.0.weight")[0] / planes)
    arguments = chain | {
        "num_out_ch": planes,
        "upscale": upscale,
        "hidden": inner[0] // 2,
        "convolved": convolved[0],
        "kernel": convolved[2],
        "dysample": dysample,
    }
    return Recipe(MoSR, arguments, own)


ARCHITECTURES = (
    Architecture(
        MoSR,
        depth=("num_blocks",),
        layouts=(
            Layout(
                "MoSR",
                "MoSR, neosr, traiNNer-redux",
                ("gblocks.0.weight", "gblocks.1.fc1.weight", "gblocks.1.conv.weight", "shortcut.block.0.weight"),
                read_mosr,
            ),
        ),
        rows=(
            Row("MoSR", "MoSR, neosr, traiNNer-redux", "exact, about 5 px a block"),
            Row("MoSR, RealPLKSR with DySample", "neosr, traiNNer-redux", "blended: PyTorch samples the points"),
        ),
    ),
)
