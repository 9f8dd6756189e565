"""SPAN and SPANF3, as spandrel, traiNNer-redux and their own programs write them."""

from __future__ import annotations

from torch import Tensor

from srfast.checkpoint.recipe import (
    Architecture,
    Hints,
    Layout,
    Recipe,
    Row,
    StateDict,
    chain_of_blocks,
    planes_shuffled,
    renamed,
    shape,
    side,
)
from srfast.errors import CheckpointError
from srfast.models.span import SPAN, SPANF3, folded

_CHAIN = ("conv_1.weight", "block_{}.c1_r.weight")


def _without_training(state: StateDict, prefix: str = "") -> dict[str, Tensor]:
    """Each trained triple of convolutions as one; the stored sum is taken only where the triple is not there."""
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        name, _, what = key.rpartition(".eval_conv.")
        # The sum that training stores may be older than the three convolutions that it is the sum of.
        if name and f"{name}.conv.0.weight" not in state:
            result[f"{name}.{what}"] = value
        elif key.endswith(".sk.weight") and f"{key.removesuffix('.sk.weight')}.conv.0.weight" in state:
            name = key.removesuffix(".sk.weight")
            for part, taps in (("conv.0", 1), ("conv.1", 3), ("conv.2", 1), ("sk", 1)):
                if shape(state, f"{name}.{part}.weight")[2:] != (taps, taps):
                    raise CheckpointError(f"{name}.{part} is no {taps}x{taps} convolution")
            result[f"{name}.weight"], result[f"{name}.bias"] = folded(state, name)
        elif not any(part in key for part in (".eval_conv.", ".sk.", ".conv.0.", ".conv.1.", ".conv.2.")):
            result[key] = value
    return result


def read_span(state: StateDict, hints: Hints) -> Recipe:
    """``block_N.cM_r.conv.K``, ``no_norm`` where the mean colour stays."""
    own = _without_training({key: value for key, value in state.items() if key != "no_norm"})
    chain, last = chain_of_blocks(own, *_CHAIN), shape(own, "upsampler.0.weight")
    planes = planes_shuffled(last[0], chain["num_in_ch"])
    arguments = chain | {
        "num_out_ch": planes,
        "upscale": side("upsampler.0.weight", last[0] / planes),
        "norm": "no_norm" not in state,
    }
    return Recipe(SPAN, arguments, own)


def read_spanf3(state: StateDict, hints: Hints) -> Recipe:
    """``block_N.att_conv``, ``to_pixel``; ``conv_1.1`` after a pixel-unshuffle, with which the shuffle is by 4."""
    own = renamed(_without_training(state), [(r"conv_1\.1\.", "conv_1.")])
    chain, last = chain_of_blocks(own, *_CHAIN), shape(own, "to_pixel.weight")
    read = chain["num_in_ch"]
    unshuffled = any(key.startswith("conv_1.1.") for key in state)
    planes = last[0] // 16 if unshuffled else planes_shuffled(last[0], read)
    unshuffle = side("conv_1.1", read / planes) if unshuffled and planes else 1
    arguments = chain | {
        "num_in_ch": read // unshuffle**2,
        "num_out_ch": planes,
        "upscale": 4 if unshuffled else side("to_pixel", last[0] / planes),
        "unshuffle": unshuffle,
    }
    return Recipe(SPANF3, arguments, own)


ARCHITECTURES = (
    Architecture(
        SPAN,
        depth=("num_blocks",),
        layouts=(
            Layout(
                "SPAN",
                "SPAN, neosr, traiNNer-redux",
                ("block_1.c1_r.eval_conv.weight", "conv_cat.weight", "conv_2.eval_conv.weight", "upsampler.0.weight"),
                read_span,
                "0..255 less the mean colour of DIV2K; 0..1 where the keys have no_norm",
            ),
        ),
        rows=(
            Row(
                "SPAN (any width, number of blocks)",
                "SPAN, neosr, traiNNer-redux",
                "exact, 21 px",
                files="`.pth`, `.safetensors`, ONNX, ncnn",
            ),
        ),
    ),
    Architecture(
        SPANF3,
        depth=("num_blocks",),
        layouts=(
            Layout(
                "SPANF3",
                "traiNNer-redux",
                ("block_1.att_conv.weight", "to_pixel.eval_conv.weight", "conv_cat.weight"),
                read_spanf3,
            ),
        ),
        rows=(Row("SPANF3", "traiNNer-redux", "exact; origin at multiples of the unshuffle"),),
    ),
)
