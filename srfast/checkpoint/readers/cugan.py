"""Real-CUGAN, as its own program and traiNNer-redux write it."""

from __future__ import annotations

from srfast.checkpoint.recipe import Architecture, Hints, Layout, Recipe, Row, StateDict, shape
from srfast.models.cugan import RealCUGAN


def read_cugan(state: StateDict, hints: Hints) -> Recipe:
    """``unet1``, ``unet2``, ``conv_final``; ``pro`` where the models are called so."""
    own = {key: value for key, value in state.items() if key != "pro"}
    inputs = shape(own, "unet1.conv1.conv.0.weight")[1]
    shuffled = "conv_final.weight" in own
    outputs = shape(own, "conv_final.weight" if shuffled else "unet2.conv_bottom.weight")[0] // (4 if shuffled else 1)
    fast = shuffled and inputs == 4 * outputs
    # Nothing in the file says the scale: x3 ends in a transposed convolution of 5x5, x2 in one of 4x4, x4 in a shuffle.
    upscale = 2 if fast else 4 if shuffled else 3 if shape(own, "unet1.conv_bottom.weight")[2] == 5 else 2
    arguments = {
        "num_in_ch": inputs // (4 if fast else 1),
        "num_out_ch": outputs,
        "upscale": upscale,
        "se": "unet1.conv2.seblock.conv1.weight" in own,
        "pro": "pro" in state,
        "fast": fast,
    }
    return Recipe(RealCUGAN, arguments, own)


_FILES = "`.pth`, `.safetensors`, ncnn"

ARCHITECTURES = (
    Architecture(
        RealCUGAN,
        layouts=(
            Layout(
                "Real-CUGAN",
                "Real-CUGAN, traiNNer-redux",
                ("unet1.conv1.conv.0.weight", "unet2.conv3.conv.0.weight", "unet2.conv_bottom.weight"),
                read_cugan,
                "0..1; 0.15..0.85 of the models called pro",
            ),
        ),
        rows=(
            Row(
                'Real-CUGAN x2, x3, x4; "pro"; the fast x2',
                "Real-CUGAN, traiNNer-redux",
                "none: means over the whole image",
                files=_FILES,
            ),
            Row(
                'Real-CUGAN without squeeze-excitation ("nose")',
                "Real-CUGAN",
                "exact; origin at multiples of 2 (x3: 4)",
                files=_FILES,
            ),
        ),
    ),
)
