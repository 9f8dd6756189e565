"""Layouts of SPAN, SPANF3, Real-CUGAN, RCAN and ArtCNN, as spandrel, traiNNer-redux and their own programs write them."""

from __future__ import annotations

from torch import Tensor

from srfast.checkpoint.recipe import Hints, Recipe, StateDict, count, renamed, shape, side
from srfast.errors import CheckpointError
from srfast.models.residual import DIV2K_MEAN
from srfast.models.span import folded


def _blocks(state: StateDict, key: str) -> int:
    """Blocks that count from 1."""
    first = key.replace("{}", "0")
    return count({**state, first: state[key.replace("{}", "1")]}, key) - 1 if key.replace("{}", "1") in state else 0


def _without_training(state: StateDict, prefix: str = "") -> dict[str, Tensor]:
    """Each trained triple of convolutions as one; the stored sum is taken only where the triple is not there."""
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        name, _, what = key.rpartition(".eval_conv.")
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
    first, last = shape(own, "conv_1.weight"), shape(own, "upsampler.0.weight")
    planes = _planes(last[0], first[1])
    arguments = {
        "num_in_ch": first[1],
        "num_out_ch": planes,
        "num_feat": first[0],
        "num_blocks": _blocks(own, "block_{}.c1_r.weight"),
        "upscale": side("upsampler.0.weight", last[0] / planes),
        "norm": "no_norm" not in state,
    }
    return Recipe("SPAN", arguments, own)


def read_spanf3(state: StateDict, hints: Hints) -> Recipe:
    """``block_N.att_conv``, ``to_pixel``; ``conv_1.1`` after a pixel-unshuffle, with which the shuffle is by 4."""
    own = renamed(_without_training(state), [(r"conv_1\.1\.", "conv_1.")])
    first, last = shape(own, "conv_1.weight"), shape(own, "to_pixel.weight")
    unshuffled = any(key.startswith("conv_1.1.") for key in state)
    planes = last[0] // 16 if unshuffled else _planes(last[0], first[1])
    unshuffle = side("conv_1.1", first[1] / planes) if unshuffled and planes else 1
    arguments = {
        "num_in_ch": first[1] // unshuffle**2,
        "num_out_ch": planes,
        "num_feat": first[0],
        "num_blocks": _blocks(own, "block_{}.c1_r.weight"),
        "upscale": 4 if unshuffled else side("to_pixel", last[0] / planes),
        "unshuffle": unshuffle,
    }
    return Recipe("SPANF3", arguments, own)


def _planes(shuffled: int, likely: int) -> int:
    """Colour planes of a result that is shuffled into a square of pixels: as many as come in, if that fits, else 3 or 1."""
    for planes in (likely, 3, 1):
        root = round((shuffled / planes) ** 0.5)
        if root >= 1 and root * root * planes == shuffled:
            return planes
    raise CheckpointError(f"its last convolution has {shuffled} channels, no square of pixels")


def read_cugan(state: StateDict, hints: Hints) -> Recipe:
    """``unet1``, ``unet2``, ``conv_final``; ``pro`` where the models are called so."""
    own = {key: value for key, value in state.items() if key != "pro"}
    inputs = shape(own, "unet1.conv1.conv.0.weight")[1]
    shuffled = "conv_final.weight" in own
    outputs = shape(own, "conv_final.weight" if shuffled else "unet2.conv_bottom.weight")[0] // (4 if shuffled else 1)
    fast = shuffled and inputs == 4 * outputs
    upscale = 2 if fast else 4 if shuffled else 3 if shape(own, "unet1.conv_bottom.weight")[2] == 5 else 2
    arguments = {
        "num_in_ch": inputs // (4 if fast else 1),
        "num_out_ch": outputs,
        "upscale": upscale,
        "se": "unet1.conv2.seblock.conv1.weight" in own,
        "pro": "pro" in state,
        "fast": fast,
    }
    return Recipe("RealCUGAN", arguments, own)


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
        white = float(round(-float(mean.reshape(-1)[0]) / DIV2K_MEAN[0]))
        if white not in (1.0, 255.0):
            raise CheckpointError(f"its mean shift is that of images of 0..{white:g}; RCAN has 0..255 or 0..1")
    steps = [shape(state, key)[0] / first[0] for key in (f"tail.0.{i}.weight" for i in (0, 2, 4)) if key in state]
    upscale = 1
    for step in steps:
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
    return Recipe("RCAN", arguments, renamed(state, [(r"(?:sub|add)_mean\.", ""), (r"body\.", "middle.")]))


def read_artcnn(state: StateDict, hints: Hints) -> Recipe:
    """``conv0``, ``res_block.N.conv.M``, ``depth_to_space.upscale.0``."""
    first, last = shape(state, "conv0.weight"), shape(state, "depth_to_space.upscale.0.weight")
    arguments = {
        "num_in_ch": first[1],
        "upscale": side("depth_to_space", last[0] / first[1]),
        "num_feat": first[0],
        "num_blocks": count(state, "res_block.{}.conv.0.0.weight"),
        "kernel": first[2],
    }
    return Recipe("ArtCNN", arguments, renamed(state, [(r"depth_to_space\.upscale\.", "upscale.")]))


def read_plksr(state: StateDict, hints: Hints) -> Recipe:
    """``feats.N``; ``layer_norm`` in the blocks, or ``norm`` of 4 groups, which no shape tells."""
    if any(key.startswith("to_img.") for key in state):
        raise CheckpointError("it enlarges by DySample, which srfast does not have; only pixel shuffles")
    numbers = [int(key.split(".")[1]) for key in state if key.startswith("feats.") and key.split(".")[1].isdigit()]
    last = max(numbers)
    first, end, large = (shape(state, f"feats.{key}.weight") for key in ("0", str(last), "1.lk.conv"))
    arguments = {
        "num_in_ch": first[1],
        "upscale": side(f"feats.{last}", end[0] / first[1]),
        "num_feat": first[0],
        "num_blocks": _blocks(state, "feats.{}.channel_mixer.0.weight"),
        "partial": large[0],
        "kernel": large[2],
        "gate": "feats.1.attn.f.0.weight" in state,
        "groups": 0 if "feats.1.layer_norm.weight" in state else 4,
    }
    return Recipe("RealPLKSR", arguments, dict(state))
