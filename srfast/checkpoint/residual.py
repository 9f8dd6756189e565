"""Layouts of the residual family: SRResNet and SRGAN by many hands, MSRResNet, EDSR; all become ``ResidualSR``."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from srfast.checkpoint.layouts import (
    Hints,
    Recipe,
    Rule,
    StateDict,
    count,
    renamed,
    shape,
    shifted,
    side,
    with_zero_biases,
)
from srfast.errors import CheckpointError
from srfast.models.residual import DIV2K_MEAN, EDSR, MSRRESNET

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# A network that sees -1..1, and one that gives it.
SIGNED_IN: dict[str, Any] = {"input_mean": (0.5,) * 3, "input_std": (0.5,) * 3}
SIGNED_OUT: dict[str, Any] = {"output_scale": (0.5,) * 3, "output_shift": (0.5,) * 3}
IMAGENET_IN: dict[str, Any] = {"input_mean": IMAGENET["mean"], "input_std": IMAGENET["std"]}


def residual(state: dict[str, Tensor], **options: Any) -> Recipe:
    """Completes ``options`` by what the keys of ``ResidualSR`` tell: sizes, slopes, upsampling steps."""
    part = ".depthwise" if options.get("separable") else ""
    head, tail = shape(state, f"head{part}.weight"), shape(state, f"tail{part}.weight")
    pointwise = ".pointwise" if options.get("separable") else ""
    blocks, ups = count(state, f"blocks.{{}}.conv1{part}.weight"), count(state, f"up.{{}}.conv{part}.weight")
    inner = f"blocks.0.conv1{part}.weight" if blocks else f"up.0.conv{part}.weight"
    channels = shape(state, f"head{pointwise}.weight")[0]
    convs = ["head", "mid", "last", "tail", *(f"up.{i}.conv" for i in range(ups))]
    convs += [f"blocks.{i}.conv{n}" for i in range(blocks) for n in (1, 2)]
    convs = [f"{name}{kind}" for name in convs for kind in ((".depthwise", ".pointwise") if part else ("",))]
    arguments: dict[str, Any] = {
        "in_channels": head[0] if part else head[1],
        "out_channels": shape(state, f"tail{pointwise}.weight")[0],
        "channels": channels,
        "num_blocks": blocks,
        "head_kernel": head[-1],
        "kernel": shape(state, inner)[-1] if inner in state else 3,
        "tail_kernel": tail[-1],
        "up_factors": tuple(
            side(f"up.{i}.conv", shape(state, f"up.{i}.conv{pointwise}.weight")[0] / channels) for i in range(ups)
        ),
        "head_act": _slopes(state, "head_act"),
        "act": _slopes(state, "blocks.0.act"),
        "up_act": _slopes(state, "up.0.act"),
    }
    return Recipe("ResidualSR", arguments | options, with_zero_biases(state, convs))


def _slopes(state: StateDict, name: str) -> str:
    slopes = state.get(f"{name}.weight")
    return "none" if slopes is None else "prelu_channels" if slopes.numel() > 1 else "prelu"


def read_leftthomas(state: StateDict, hints: Hints) -> Recipe:
    """``block1`` .. ``blockN``: head, residual blocks, middle, upsampling with the tail."""
    numbers = [int(m[1]) for key in state if (m := re.match(r"block(\d{1,3})\.", key))]
    up = max(numbers)
    steps = count(state, f"block{up}.{{}}.conv.weight")
    batch = f"block{up - 1}.1.running_mean" in state
    rules: list[Rule] = [
        (r"block1\.0\.", "head."),
        (r"block1\.1\.", "head_act."),
        (rf"block{up - 1}\.0\.", "mid."),
        (rf"block{up - 1}\.1\.", "mid_norm." if batch else "mid_act."),
        (rf"block{up}\.{steps}\.", "tail."),
        (rf"block{up}\.(\d)\.conv\.", r"up.\1.conv."),
        (rf"block{up}\.(\d)\.prelu\.", r"up.\1.act."),
        (r"block(\d+)\.conv(\d)\.", shifted(r"blocks.{}.conv\2.", -2)),
        (r"block(\d+)\.bn(\d)\.", shifted(r"blocks.{}.norm\2.", -2)),
        (r"block(\d+)\.prelu\.", shifted("blocks.{}.act.", -2)),
    ]
    own = renamed(state, rules)
    middle = "norm" if batch else _slopes(own, "mid_act")
    return residual(own, head="tanh", middle=middle, **SIGNED_OUT)


_SEQUENCE = {"0": "conv1", "1": "norm1", "2": "act", "3": "conv2", "4": "norm2"}


def read_lornatang(state: StateDict, hints: Hints) -> Recipe:
    """SRGAN-PyTorch from 2021-08 to 2022-10, whose names changed while the network stayed."""
    tanh = "conv_block3.0.weight" in state
    rules: list[Rule] = [
        (r"conv(?:_block)?1\.0\.", "head."),
        (r"conv(?:_block)?1\.1\.", "head_act."),
        (
            r"(?:trunk|residual_blocks)\.(\d+)\.(?:rcb|rc_block|conv_block)\.([0-4])\.",
            lambda m: f"blocks.{m[1]}.{_SEQUENCE[m[2]]}.",
        ),
        (r"conv(?:_block)?2\.0\.", "mid."),
        (r"conv(?:_block)?2\.1\.", "mid_norm."),
        (r"upsampling\.(\d)\.upsample_block\.0\.", r"up.\1.conv."),
        (r"upsampling\.(\d)\.upsample_block\.2\.", r"up.\1.act."),
        *_flat_steps("upsampling.1.running_mean" in state),
        (r"conv(?:_block)?3\.(?:0\.)?", "tail."),
    ]
    own = renamed(state, rules)
    for i in range(count(own, "up.{}.norm.running_mean")):
        own = _with_norm_folded(own, f"up.{i}")
    # The tanh was trained on 0..1.
    return residual(own, middle="norm", head="tanh" if tanh else "clamp")


def _flat_steps(batch: bool) -> list[Rule]:
    """``upsampling.N`` without blocks: convolution, [batch normalisation,] shuffle, PReLU, and again."""
    if not batch:
        return [
            (r"upsampling\.([03])\.", lambda m: f"up.{int(m[1]) // 3}.conv."),
            (r"upsampling\.([25])\.", lambda m: f"up.{int(m[1]) // 3}.act."),
        ]
    parts = ("conv", "norm", "shuffle", "act")
    return [(r"upsampling\.([0-7])\.", lambda m: f"up.{int(m[1]) // 4}.{parts[int(m[1]) % 4]}.")]


def _with_norm_folded(state: dict[str, Tensor], step: str) -> dict[str, Tensor]:
    """The batch normalisation between a step's convolution and its shuffle, in the convolution."""
    norm = {
        name: state.pop(f"{step}.norm.{name}").double() for name in ("weight", "bias", "running_mean", "running_var")
    }
    weight = state[f"{step}.conv.weight"]
    bias = state.get(f"{step}.conv.bias", torch.zeros(weight.shape[0])).double()
    scale = norm["weight"] * torch.rsqrt(norm["running_var"] + 1e-5)
    state[f"{step}.conv.weight"] = (weight.double() * scale[:, None, None, None]).float()
    state[f"{step}.conv.bias"] = (norm["bias"] + (bias - norm["running_mean"]) * scale).float()
    return state


def read_sgrvinod(state: StateDict, hints: Hints) -> Recipe:
    """``conv_block1.conv_block``, ``residual_blocks``, ``subpixel_convolutional_blocks``."""
    inner = {"10": "conv1", "11": "norm1", "12": "act", "20": "conv2", "21": "norm2"}
    rules: list[Rule] = [
        (r"conv_block1\.conv_block\.0\.", "head."),
        (r"conv_block1\.conv_block\.1\.", "head_act."),
        (
            r"residual_blocks\.(\d+)\.conv_block([12])\.conv_block\.([0-2])\.",
            lambda m: f"blocks.{m[1]}.{inner[m[2] + m[3]]}.",
        ),
        (r"conv_block2\.conv_block\.0\.", "mid."),
        (r"conv_block2\.conv_block\.1\.", "mid_norm."),
        (r"subpixel_convolutional_blocks\.(\d)\.conv\.", r"up.\1.conv."),
        (r"subpixel_convolutional_blocks\.(\d)\.prelu\.", r"up.\1.act."),
        (r"conv_block3\.conv_block\.0\.", "tail."),
    ]
    return residual(renamed(state, rules), head="tanh", **IMAGENET_IN, **SIGNED_OUT)


def read_twtygqyy(state: StateDict, hints: Hints) -> Recipe:
    """``conv_input``, ``residual.N``, ``upscale4x``; batch normalisation or (older) instance normalisation."""
    batch = "bn_mid.running_mean" in state
    rules: list[Rule] = [
        (r"conv_input\.", "head."),
        (r"residual\.(\d+)\.conv(\d)\.", r"blocks.\1.conv\2."),
        (r"residual\.(\d+)\.(?:in|bn)(\d)\.", r"blocks.\1.norm\2."),
        (r"conv_mid\.", "mid."),
        (r"bn_mid\.", "mid_norm."),
        (r"upscale\dx\.([036])\.", lambda m: f"up.{int(m[1]) // 3}.conv."),
        (r"conv_output\.", "tail."),
    ]
    leaky = {"head_act": "leaky0.2", "act": "leaky0.2", "up_act": "leaky0.2"}
    return residual(renamed(state, rules), norm="batch" if batch else "instance_affine", **leaky)


def read_aitorzip(state: StateDict, hints: Hints) -> Recipe:
    """``residual_blockN`` from 1, ``upsampleN`` from 1; swish."""
    rules: list[Rule] = [
        (r"conv1\.", "head."),
        (r"residual_block(\d+)\.conv(\d)\.", shifted(r"blocks.{}.conv\2.", -1)),
        (r"residual_block(\d+)\.bn(\d)\.", shifted(r"blocks.{}.norm\2.", -1)),
        (r"conv2\.", "mid."),
        (r"bn2\.", "mid_norm."),
        (r"upsample(\d)\.conv\.", shifted("up.{}.conv.", -1)),
        (r"conv3\.", "tail."),
    ]
    swish = {"head_act": "silu", "act": "silu", "up_act": "silu"}
    out = {"output_scale": IMAGENET["std"], "output_shift": IMAGENET["mean"]}
    return residual(renamed(state, rules), **swish, **IMAGENET_IN, **out)


def read_dongheehand(state: StateDict, hints: Hints) -> Recipe:
    """``conv01``, ``body``, ``conv02``, ``tail``, ``last_conv``; one PReLU that all layers share, under many names."""
    inner = {"00": "conv1", "01": "norm1", "02": "act", "10": "conv2", "11": "norm2"}
    rules: list[Rule] = [
        (r"conv01\.body\.0\.", "head."),
        (r"conv01\.body\.1\.", "head_act."),
        (r"body\.(\d+)\.body\.([01])\.body\.([0-2])\.", lambda m: f"blocks.{m[1]}.{inner[m[2] + m[3]]}."),
        (r"conv02\.body\.0\.", "mid."),
        (r"conv02\.body\.1\.", "mid_norm."),
        (r"tail\.(\d)\.body\.0\.body\.0\.", r"up.\1.conv."),
        (r"tail\.(\d)\.body\.2\.", r"up.\1.act."),
        (r"last_conv\.body\.0\.", "tail."),
    ]
    own = renamed(state, rules)
    if "head_act.weight" in own:  # writers that store a shared tensor once leave the other names out
        shared = [f"blocks.{i}.act.weight" for i in range(count(own, "blocks.{}.conv1.weight"))]
        shared += [f"up.{i}.act.weight" for i in range(count(own, "up.{}.conv.weight"))]
        own = dict.fromkeys(shared, own["head_act.weight"]) | own
    return residual(own, head="tanh", **SIGNED_IN, **SIGNED_OUT)


def read_fast_srgan(state: StateDict, hints: Hints) -> Recipe:
    """``neck``, ``stem``, ``bottleneck``, ``upsampling``, ``head``; instance normalisation without keys, or batch."""
    batch = "bottleneck.1.running_mean" in state
    rules: list[Rule] = [
        (r"neck\.0\.", "@head."),
        (r"neck\.1\.", "@head_act."),
        (r"stem\.(\d+)\.conv(\d)\.", r"blocks.\1.conv\2."),
        (r"stem\.(\d+)\.bn(\d)\.", r"blocks.\1.norm\2."),
        (r"stem\.(\d+)\.(?:p?relu)1?\.", r"blocks.\1.act."),
        (r"bottleneck\.0\.", "mid."),
        (r"bottleneck\.1\.", "mid_norm."),
        (r"upsampling\.(\d)\.conv\.", r"up.\1.conv."),
        (r"upsampling\.(\d)\.p?relu\.", r"up.\1.act."),
        (r"head\.0\.", "tail."),
    ]
    own = {key.removeprefix("@"): _dense(value) for key, value in renamed(state, rules).items()}
    return residual(own, norm="batch" if batch else "instance", head="tanh", **SIGNED_IN, **SIGNED_OUT)


def _dense(weight: Tensor) -> Tensor:
    """The depthwise [C, 1, 3, 3] and pointwise [C, C, 1, 1] kernels of the later blocks as plain 3x3 ones."""
    if weight.ndim == 4 and weight.shape[2:] == (3, 3) and weight.shape[1] == 1 < weight.shape[0] <= 1024:
        return torch.eye(weight.shape[0], dtype=weight.dtype)[:, :, None, None] * weight
    if weight.ndim == 4 and weight.shape[2:] == (1, 1):
        return F.pad(weight, (1, 1, 1, 1))
    return weight


def read_swift(state: StateDict, hints: Hints) -> Recipe:
    """``initial``, ``residual``, ``convblock``, ``upsampler``, ``final_conv``: separable convolutions, a slope a channel."""
    rules: list[Rule] = [
        (r"initial\.cnn\.", "head."),
        (r"initial\.act\.", "head_act."),
        (r"residual\.(\d+)\.block([12])\.cnn\.", r"blocks.\1.conv\2."),
        (r"residual\.(\d+)\.block([12])\.bn\.", r"blocks.\1.norm\2."),
        (r"residual\.(\d+)\.block1\.act\.", r"blocks.\1.act."),
        (r"(?:residual\.\d+\.block2|convblock)\.act\.", ""),  # stored, and never used
        (r"convblock\.cnn\.", "mid."),
        (r"convblock\.bn\.", "mid_norm."),
        (r"upsampler\.(\d)\.", r"up.\1."),
        (r"final_conv\.", "tail."),
    ]
    return residual(renamed(state, rules), separable=True, head="tanh", **SIGNED_OUT)


def read_msrresnet(state: StateDict, hints: Hints) -> Recipe:
    """BasicSR now and before (``recon_trunk``, ``HRconv``), and KAIR's MSRResNet1."""
    rules: list[Rule] = [
        (r"conv_first\.", "head."),
        (r"(?:body|recon_trunk)\.(\d+)\.", r"blocks.\1."),
        (r"upconv(\d)\.", shifted("up.{}.conv.", -1)),
        (r"(?:conv_hr|HRconv)\.", "last."),
        (r"conv_last\.", "tail."),
    ]
    return residual(renamed(state, rules), **MSRRESNET, up_act="leaky0.1")


def read_mmagic_msrresnet(state: StateDict, hints: Hints) -> Recipe:
    """mmagic and mmediting; without activations after the upsampling steps."""
    rules: list[Rule] = [
        (r"conv_first\.", "head."),
        (r"trunk_net\.(\d+)\.", r"blocks.\1."),
        (r"upsample(\d)\.upsample_conv\.", shifted("up.{}.conv.", -1)),
        (r"conv_hr\.", "last."),
        (r"conv_last\.", "tail."),
    ]
    return residual(renamed(state, rules), **MSRRESNET, up_act="none")


def read_old_srresnet(state: StateDict, hints: Hints) -> Recipe:
    """The first BasicSR and KAIR's MSRResNet0: ``model.1.sub.N.res``; ReLU, repeated pixels or pixel shuffle."""
    batch = "model.1.sub.0.res.1.running_mean" in state
    blocks = count(state, "model.1.sub.{}.res.0.weight")
    parts = {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"} if batch else {"0": "conv1", "2": "conv2"}
    numbers = (re.fullmatch(r"model\.(\d{1,3})\.weight", key) for key in state)
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
    nearest = shape(state, f"model.{after[0]}.weight")[0] == shape(state, "model.0.weight")[0]
    if nearest:
        options |= {"nearest": True, "up_factors": (3,) if hints.scale == 3 and steps == 1 else (2,) * steps}
    return residual(renamed(state, rules), **options)


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
    return residual(state, **(EDSR | ranges), res_scale=res_scale)


def read_own(state: StateDict, hints: Hints) -> Recipe:
    """The module's own keys, which leave activations and ranges open."""
    raise CheckpointError(
        "it has the keys of srfast's ResidualSR, but not the metadata that tells its activations and value ranges; "
        "write such files with 'srfast convert' or srfast.checkpoint.save_checkpoint"
    )
