"""SRVGGNetCompact, as Real-ESRGAN and traiNNer-redux write it."""

from __future__ import annotations

import re

from srfast.checkpoint.recipe import GUESSED_ACT, Architecture, Hints, Layout, Recipe, Row, StateDict, shape, side
from srfast.errors import CheckpointError
from srfast.models.compact import SRVGGNetCompact


def read_compact(state: StateDict, hints: Hints) -> Recipe:
    """``body.N``: convolutions at even N, slopes of PReLU at odd N where there are any."""
    numbers = (re.fullmatch(r"body\.(\d{1,4})\.weight", key) for key in state)
    convs = sorted(int(m[1]) for m in numbers if m and state[m[0]].ndim == 4)
    # Every second module is an activation; ReLU has no numbers and leaves no key, so only the convolutions can be counted.
    if convs != list(range(0, 2 * len(convs), 2)) or len(convs) > 256:
        raise CheckpointError(f"its convolutions are body.{', body.'.join(map(str, convs[:8]))}, not every second one")
    first, last = shape(state, "body.0.weight"), shape(state, f"body.{convs[-1]}.weight")
    upscale = side(f"body.{convs[-1]}", last[0] / first[1])
    slopes = "body.1.weight" in state
    arguments = {
        "num_in_ch": first[1],
        "num_out_ch": first[1],
        "num_feat": first[0],
        "num_conv": len(convs) - 2,
        "upscale": upscale,
        "act_type": "prelu" if slopes else hints.act or "relu",
    }
    return Recipe(SRVGGNetCompact, arguments, dict(state), () if slopes or hints.act else (GUESSED_ACT,))


ARCHITECTURES = (
    Architecture(
        SRVGGNetCompact,
        depth=("num_conv",),
        layouts=(
            Layout(
                "SRVGGNetCompact",
                "Real-ESRGAN",
                ("body.0.weight", "body.2.weight", "body.2.bias"),
                read_compact,
            ),
        ),
        rows=(
            Row(
                "SRVGGNetCompact",
                "Real-ESRGAN, traiNNer-redux",
                "exact, 18 px",
                "`--act leakyrelu`",
                "`.pth`, `.safetensors`, ONNX, ncnn",
            ),
        ),
    ),
)
