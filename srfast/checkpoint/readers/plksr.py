"""RealPLKSR, as neosr and traiNNer-redux write it."""

from __future__ import annotations

from srfast.checkpoint.recipe import Architecture, Hints, Layout, Recipe, Row, StateDict, count_from_one, shape, side
from srfast.models.plksr import RealPLKSR


def read_plksr(state: StateDict, hints: Hints) -> Recipe:
    """``feats.N``; ``layer_norm`` in the blocks, or ``norm`` of 4 groups, which no shape tells."""
    numbers = [int(key.split(".")[1]) for key in state if key.startswith("feats.") and key.split(".")[1].isdigit()]
    last = max(numbers)
    first, end, large = (shape(state, f"feats.{key}.weight") for key in ("0", str(last), "1.lk.conv"))
    upscale = side(f"feats.{last}", end[0] / first[1])
    sampled = "to_img.init_pos" in state
    arguments = {
        "num_in_ch": first[1],
        "upscale": upscale,
        "num_feat": first[0],
        "num_blocks": count_from_one(state, "feats.{}.channel_mixer.0.weight"),
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
