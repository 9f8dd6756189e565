"""The SRResNet that srfast trains, with the keys of SRGAN-PyTorch since 2022-10."""

from __future__ import annotations

from srfast.checkpoint.recipe import UNSIGNED, Architecture, Hints, Layout, Recipe, StateDict, count, shape
from srfast.models.srresnet import SRResNet


def read_srresnet(state: StateDict, hints: Hints) -> Recipe:
    """The SRResNet that srfast trains: the keys of SRGAN-PyTorch since 2022-10."""
    first, last = shape(state, "conv1.0.weight"), shape(state, "conv3.weight")
    arguments = {
        "scale": 2 ** count(state, "upsampling.{}.upsample_block.0.weight"),
        "in_channels": first[1],
        "out_channels": last[0],
        "channels": first[0],
        "num_blocks": count(state, "trunk.{}.rcb.0.weight"),
    }
    return Recipe(SRResNet, arguments, dict(state))


ARCHITECTURES = (
    Architecture(
        SRResNet,
        depth=("num_blocks",),
        layouts=(
            Layout(
                "SRResNet",
                "srfast, SRGAN-PyTorch since 2022-10",
                ("conv1.0.weight", "trunk.0.rcb.0.weight", "upsampling.0.upsample_block.0.weight", "conv3.weight"),
                read_srresnet,
                UNSIGNED,
            ),
        ),
    ),
)
