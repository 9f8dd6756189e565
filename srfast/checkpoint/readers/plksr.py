"""RealPLKSR, as neosr and traiNNer-redux write it."""

from __future__ import annotations

from srfast.checkpoint.recipe import Architecture, Hints, Layout, Recipe, Row, StateDict, chain_of_blocks, shape, side
from srfast.models.plksr import RealPLKSR


def read_plksr(state: StateDict, hints: Hints) -> Recipe:
    """``feats.N``; ``layer_norm`` in the blocks, or ``norm`` of 4 groups, which no shape tells."""
    numbers = [int(key.split(".")[1]) for key in state if key.startswith("feats.") and key.split(".")[1].isdigit()]
    # Blocks are numbered with the first and the last convolution; between them and the last stands a dropout, which is no
    # block.
    last = max(numbers)
    chain = chain_of_blocks(state, "feats.0.weight", "feats.{}.channel_mixer.0.weight")
    end, large = shape(state, f"feats.{last}.weight"), shape(state, "feats.1.lk.conv.weight")
    upscale = side(f"feats.{last}", end[0] / chain["num_in_ch"])
    sampled = "to_img.init_pos" in state
    arguments = chain | {
        "upscale": upscale,
        "partial": large[0],
        "kernel": large[2],
        "gate": "feats.1.attn.f.0.weight" in state,
        "dysample": shape(state, "to_img.offset.weight")[0] // (2 * upscale**2) if sampled else 0,
        "groups": 0 if "feats.1.layer_norm.weight" in state else 4,
    }
    return Recipe(RealPLKSR, arguments, dict(state))


ARCHITECTURES = (
    Architecture(
        RealPLKSR,
        depth=("num_blocks",),
        layouts=(
            Layout(
                "RealPLKSR",
                "neosr, traiNNer-redux",
                ("feats.0.weight", "feats.1.channel_mixer.0.weight", "feats.1.lk.conv.weight", "feats.1.refine.weight"),
                read_plksr,
            ),
        ),
        rows=(
            Row("RealPLKSR with normalised pixels", "neosr, traiNNer-redux", "exact, about 11 px a block"),
            Row("RealPLKSR with group normalisation", "neosr, traiNNer-redux", "none: means over the whole image"),
        ),
    ),
)
