"""Layouts of BasicSR and its relatives: MSRResNet, the first SRResNet, EDSR; all become ``ResidualSR``."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from torch import Tensor

from srfast.checkpoint.readers.residual import residual
from srfast.checkpoint.recipe import (
    GUESSED_SCALE,
    Architecture,
    Hints,
    Layout,
    Recipe,
    Rule,
    StateDict,
    count,
    renamed,
    shape,
    shifted,
)
from srfast.errors import CheckpointError
from srfast.models.residual import DIV2K_MEAN, EDSR, MSRRESNET, ResidualSR


def read_msrresnet(state: StateDict, hints: Hints) -> Recipe:
    """BasicSR now and before (``recon_trunk``, ``HRconv``), and KAIR's MSRResNet1."""
    return _msrresnet(state, (r"(?:body|recon_trunk)\.", r"upconv(\d)\."), "leaky0.1")


def read_mmagic_msrresnet(state: StateDict, hints: Hints) -> Recipe:
    """mmagic and mmediting; without activations after the upsampling steps."""
    return _msrresnet(state, (r"trunk_net\.", r"upsample(\d)\.upsample_conv\."), "none")


def _msrresnet(state: StateDict, patterns: tuple[str, str], up_act: str) -> Recipe:
    """With other names of the blocks and of the upsampling steps, which count from 1."""
    blocks, steps = patterns
    rules: list[Rule] = [
        (r"conv_first\.", "head."),
        (rf"{blocks}(\d+)\.", r"blocks.\1."),
        (steps, shifted("up.{}.conv.", -1)),
        (r"(?:conv_hr|HRconv)\.", "last."),
        (r"conv_last\.", "tail."),
    ]
    return residual(renamed(state, rules), **MSRRESNET, up_act=up_act)


def read_old_srresnet(state: StateDict, hints: Hints) -> Recipe:
    """The first BasicSR and KAIR's MSRResNet0: ``model.1.sub.N.res``; ReLU, repeated pixels or pixel shuffle."""
    batch = "model.1.sub.0.res.1.running_mean" in state
    blocks = count(state, "model.1.sub.{}.res.0.weight")
    parts = {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"} if batch else {"0": "conv1", "2": "conv2"}
    numbers = (re.fullmatch(r"model\.(\d{1,3})\.weight", key) for key in state)
    # Numbers of nn.Sequential: those without weights are activations and shuffles, so only the order of the others counts.
    after = sorted(int(match[1]) for match in numbers if match and int(match[1]) > 1)
    steps = len(after) - 2
    if steps < 1:
        raise CheckpointError(f"it has {len(after)} convolutions after its blocks, at least 3 are expected")
    names = [*(f"up.{i}.conv" for i in range(steps)), "last", "tail"]
    rules: list[Rule] = [
        (r"model\.0\.", "head."),
        (r"model\.1\.sub\.(\d+)\.res\.(\d)\.", lambda m: f"blocks.{m[1]}.{parts.get(m[2], m[2])}."),
        (rf"model\.1\.sub\.{blocks}\.", "mid."),
        (rf"model\.1\.sub\.{blocks + 1}\.", "mid_norm."),
        *((rf"model\.{number}\.", f"{name}.") for number, name in zip(after, names, strict=True)),
    ]
    options: dict[str, Any] = {"head_act": "none", "act": "relu", "up_act": "relu", "last_act": "relu"}
    options |= {"norm": "batch" if batch else "none", "middle": "norm" if batch else "plain"}
    # A convolution before a shuffle makes more channels than it reads; one after repeated pixels does not.
    nearest = shape(state, f"model.{after[0]}.weight")[0] == shape(state, "model.0.weight")[0]
    if nearest:
        options |= {"nearest": True, "up_factors": (3,) if hints.scale == 3 and steps == 1 else (2,) * steps}
    recipe = residual(renamed(state, rules), **options)
    return replace(recipe, guesses=(GUESSED_SCALE,)) if nearest and steps == 1 and hints.scale is None else recipe


def read_edsr(state: StateDict, hints: Hints) -> Recipe:
    """EDSR-PyTorch: ``body.N.body.0``, ``body.NB``, ``tail.0.N``; its mean shifts say whether white is 255 or 1."""
    blocks = count(state, "body.{}.body.0.weight")
    shift = state.get("sub_mean.bias")
    white = 255.0 if shift is None else float(round(-float(shift[0]) / DIV2K_MEAN[0]))
    rules: list[Rule] = [
        (r"(?:sub|add)_mean\.", ""),
        (r"head\.0\.", "@head."),
        (r"body\.(\d+)\.body\.0\.", r"blocks.\1.conv1."),
        (r"body\.(\d+)\.body\.2\.", r"blocks.\1.conv2."),
        (rf"body\.{blocks}\.", "mid."),
        (r"tail\.0\.([024])\.", lambda m: f"up.{int(m[1]) // 2}.conv."),
        (r"tail\.1\.", "@tail."),
    ]
    # Marked with @ on the way: the new names of some keys are old names of others.
    own = {key.removeprefix("@"): value for key, value in renamed(state, rules).items()}
    return _edsr(own, hints, white)


def read_basicsr_edsr(state: StateDict, hints: Hints) -> Recipe:
    """BasicSR's EDSR: ``conv_after_body``, ``upsample.N``."""
    rules: list[Rule] = [
        (r"conv_first\.", "head."),
        (r"body\.(\d+)\.", r"blocks.\1."),
        (r"conv_after_body\.", "mid."),
        (r"upsample\.([024])\.", lambda m: f"up.{int(m[1]) // 2}.conv."),
        (r"conv_last\.", "tail."),
    ]
    return _edsr(renamed(state, rules), hints, 255.0)


def _edsr(state: dict[str, Tensor], hints: Hints, white: float) -> Recipe:
    if white not in (1.0, 255.0):
        raise CheckpointError(f"its mean shift is that of images of 0..{white:g}; EDSR has 0..255 or 0..1")
    channels = shape(state, "head.weight")[0]
    res_scale = hints.res_scale if hints.res_scale is not None else 0.1 if channels >= 256 else 1.0
    ranges = {"input_std": (1 / white,) * 3, "output_scale": (1 / white,) * 3}
    recipe = residual(state, **(EDSR | ranges), res_scale=res_scale)
    if hints.res_scale is not None:
        return recipe
    told = f"every gain of the blocks, and {res_scale:g} was taken, as published; for another give --res-scale (res_scale=)"
    return replace(recipe, guesses=(told,))


ARCHITECTURES = (
    Architecture(
        ResidualSR,
        depth=("num_blocks",),
        layouts=(
            Layout("MSRResNet", "BasicSR", ("body.0.conv1.weight", "upconv1.weight", "conv_hr.weight"), read_msrresnet),
            Layout(
                "MSRResNet",
                "BasicSR before 2020, KAIR",
                ("recon_trunk.0.conv1.weight", "HRconv.weight"),
                read_msrresnet,
            ),
            Layout(
                "MSRResNet",
                "mmagic",
                ("trunk_net.0.conv1.weight", "upsample1.upsample_conv.weight"),
                read_mmagic_msrresnet,
            ),
            Layout(
                "SRResNet",
                "BasicSR, first, and KAIR",
                ("model.0.weight", "model.1.sub.0.res.0.weight"),
                read_old_srresnet,
            ),
            Layout(
                "EDSR",
                "BasicSR",
                ("conv_after_body.weight", "body.0.conv1.weight", "upsample.0.weight"),
                read_basicsr_edsr,
                "0..255 less the mean colour of DIV2K",
            ),
            Layout(
                "EDSR",
                "EDSR-PyTorch",
                ("head.0.weight", "body.0.body.0.weight", "tail.0.0.weight"),
                read_edsr,
                "0..255 (or as its mean shift says) less the mean colour of DIV2K",
            ),
        ),
    ),
)
