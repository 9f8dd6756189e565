"""RCAN, as its own program and traiNNer-redux write it."""

from __future__ import annotations

from srfast.checkpoint.recipe import Architecture, Hints, Layout, Recipe, Row, StateDict, count, renamed, shape, side
from srfast.errors import CheckpointError
from srfast.models.rcan import RCAN
from srfast.models.residual import DIV2K_MEAN


def read_rcan(state: StateDict, hints: Hints) -> Recipe:
    """``head.0`` or, after a pixel-unshuffle, ``head.1``; ``body.N.body.M``; ``sub_mean`` where the mean colour goes."""
    unshuffled = "head.1.weight" in state
    groups, blocks = count(state, "body.{}.body.0.body.0.weight"), count(state, "body.0.body.{}.body.0.weight")
    first, planes = shape(state, f"head.{int(unshuffled)}.weight"), shape(state, "tail.1.weight")[0]
    mean = state.get("sub_mean.bias")
    white = 0.0
    if mean is not None:
        if mean.numel() != 3:
            raise CheckpointError(f"sub_mean.bias has {mean.numel()} values, expected 3")
        # The shift is minus the mean colour in the network's own range: what it is a multiple of is white.
        white = float(round(-float(mean.reshape(-1)[0]) / DIV2K_MEAN[0]))
        if white not in (1.0, 255.0):
            raise CheckpointError(f"its mean shift is that of images of 0..{white:g}; RCAN has 0..255 or 0..1")
    steps = [shape(state, key)[0] / first[0] for key in (f"tail.0.{i}.weight" for i in (0, 2, 4)) if key in state]
    upscale = 1
    for step in steps:
        # Each step's channels say its factor: 4 times as many as the width double the image, 9 times triple it.
        upscale *= side("tail.0", step)
    arguments = {
        "num_in_ch": planes,
        "upscale": upscale,
        "num_groups": groups,
        "num_blocks": blocks,
        "num_feat": first[0],
        "middle": shape(state, "body.0.body.0.body.3.conv_du.0.weight")[0],
        "white": white,
        "unshuffle": side("head.1", first[1] / planes) if unshuffled else 1,
    }
    return Recipe(RCAN, arguments, renamed(state, [(r"(?:sub|add)_mean\.", ""), (r"body\.", "middle.")]))


ARCHITECTURES = (
    Architecture(
        RCAN,
        depth=("num_groups", "num_blocks"),
        layouts=(
            Layout(
                "RCAN",
                "RCAN, traiNNer-redux",
                ("body.0.body.0.body.3.conv_du.0.weight", "tail.1.weight"),
                read_rcan,
                "0..255 less the mean colour of DIV2K, or 0..1",
            ),
        ),
        rows=(Row("RCAN", "RCAN, traiNNer-redux (with unshuffle)", "none: means over the whole image"),),
    ),
)
