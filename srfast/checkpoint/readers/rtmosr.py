"""RTMoSR, as its own program and traiNNer-redux write it."""

from __future__ import annotations

import re

from srfast.checkpoint.recipe import Architecture, Hints, Layout, Recipe, Row, StateDict, count, renamed, shape, side
from srfast.models.rtmosr import RTMoSR, folded, folded_depthwise

_SUM, _DEPTHWISE = "conv_3x3_rep", "conv5x5_reparam"


def read_rtmosr(state: StateDict, hints: Hints) -> Recipe:
    """``to_feat`` (``to_feat.1`` after an unshuffle), ``body.N``, ``to_img.0``.

    The sums that a file stores are those of its last evaluation: where what they are of is there too, it is summed again.
    """
    own = _summed(state)
    head = "to_feat.1" if "to_feat.1.weight" in own else "to_feat"
    first, inner, last = shape(own, f"{head}.weight"), shape(own, "body.0.fc1.weight"), shape(own, "to_img.0.weight")
    gate = own.get("body.0.conv.2.squeezing.0.weight")
    planes = 3 if head == "to_feat.1" else first[1]
    arguments = {
        "num_in_ch": planes,
        "upscale": side("to_img.0", last[0] / planes),
        "unshuffle": side(head, first[1] / planes),
        "num_feat": first[0],
        "num_blocks": count(own, "body.{}.fc1.weight"),
        "hidden": inner[0] // 2,
        "middle": 0 if gate is None else int(gate.shape[0]),
        "kernel": shape(own, "body.0.fc2.weight")[2],
    }
    names = [
        (r"to_feat\.1\.", "to_feat."),
        (r"body\.(\d+)\.conv\.0\.poll\.1\.", r"blocks.\1.mixer.pool."),
        (r"body\.(\d+)\.conv\.1\.", r"blocks.\1.mixer.shift."),
        (r"body\.(\d+)\.conv\.2\.squeezing\.", r"blocks.\1.mixer.gate."),
        (r"body\.", "blocks."),
    ]
    return Recipe(RTMoSR, arguments, renamed(own, names))


def _summed(state: StateDict) -> StateDict:
    """Each sum as one convolution, under the name of the sum's module."""
    own = dict(state)
    for key in state:
        match = re.fullmatch(rf"(.+)\.(?:{_SUM}|{_DEPTHWISE})\.weight", key)
        if match is None:
            continue
        name, depthwise = match[1], key.endswith(f"{_DEPTHWISE}.weight")
        stored = f"{name}.{_DEPTHWISE if depthwise else _SUM}"
        if f"{name}.alpha1" in state or f"{name}.alpha" in state:
            weight, bias = (folded_depthwise if depthwise else folded)(state, name)
        else:
            weight, bias = state[f"{stored}.weight"], state[f"{stored}.bias"]
        for part in [part for part in own if part.startswith(f"{name}.")]:
            del own[part]
        own[f"{name}.weight"], own[f"{name}.bias"] = weight, bias
    return own


ARCHITECTURES = (
    Architecture(
        RTMoSR,
        depth=("num_blocks",),
        layouts=(
            Layout(
                "RTMoSR",
                "RTMoSR, traiNNer-redux",
                ("body.0.fc1.conv_3x3_rep.weight", "body.0.conv.1.conv5x5_reparam.weight", "body.0.norm.offset"),
                read_rtmosr,
            ),
        ),
        rows=(Row("RTMoSR", "RTMoSR, traiNNer-redux", "none: means over the whole image; exact without its gates"),),
    ),
)
