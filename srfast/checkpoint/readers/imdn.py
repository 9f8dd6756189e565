"""IMDN, as its own program writes it."""

from __future__ import annotations

from srfast.checkpoint.recipe import (
    Architecture,
    Hints,
    Layout,
    Recipe,
    Row,
    StateDict,
    count_from_one,
    shape,
    side,
)
from srfast.models.imdn import IMDN


def read_imdn(state: StateDict, hints: Hints) -> Recipe:
    """``fea_conv``, ``IMDBN``, ``c.0``, ``LR_conv``, ``upsampler.0``."""
    first, last = shape(state, "fea_conv.weight"), shape(state, "upsampler.0.weight")
    arguments = {
        "num_in_ch": first[1],
        "num_out_ch": first[1],
        "num_feat": first[0],
        "num_blocks": count_from_one(state, "IMDB{}.c1.weight"),
        "kept": shape(state, "IMDB1.c4.weight")[0],
        "middle": shape(state, "IMDB1.cca.conv_du.0.weight")[0],
        "upscale": side("upsampler.0", last[0] / first[1]),
    }
    return Recipe(IMDN, arguments, dict(state))


ARCHITECTURES = (
    Architecture(
        IMDN,
        depth=("num_blocks",),
        layouts=(
            Layout(
                "IMDN",
                "IMDN",
                (
                    "fea_conv.weight",
                    "IMDB1.c1.weight",
                    "IMDB1.cca.conv_du.0.weight",
                    "LR_conv.weight",
                    "upsampler.0.weight",
                ),
                read_imdn,
            ),
        ),
        rows=(Row("IMDN", "IMDN", "none: means over the whole image"),),
    ),
)
