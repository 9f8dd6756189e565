"""SR-UGAN, as srfast trains it."""

from __future__ import annotations

from torch import Tensor

from srfast.checkpoint.recipe import Architecture, Hints, Layout, Recipe, StateDict, count, shape
from srfast.models.ugan import SRUGAN


def read_ugan(state: StateDict, hints: Hints) -> Recipe:
    """The module's own keys."""
    first, tail = shape(state, "down1.conv1.weight"), shape(state, "tail.weight")
    own: dict[str, Tensor] = dict(state)
    arguments = {
        # The tail itself doubles the image; each step before it doubles it once more.
        "scale": 2 * 2 ** count(state, "enlarge.{}.conv.weight"),
        "in_channels": first[1],
        "out_channels": tail[0] // 4,
        "channels": first[0],
        "growth": shape(state, "blocks.0.conv1.weight")[0],
        "blocks": count(state, "blocks.{}.conv1.weight"),
        "channel_attention": "down1.channel_gate.squeeze.weight" in state,
    }
    return Recipe(SRUGAN, arguments, own)


ARCHITECTURES = (
    Architecture(
        SRUGAN,
        depth=("blocks",),
        layouts=(Layout("SR-UGAN", "srfast", ("down1.conv1.weight", "bottom.conv1.weight", "tail.weight"), read_ugan),),
    ),
)
