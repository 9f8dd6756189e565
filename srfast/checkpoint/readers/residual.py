"""Layouts of the residual family: SRResNet and SRGAN by many hands; all become ``ResidualSR``."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from srfast.checkpoint.recipe import (
    UNSIGNED,
    Architecture,
    Hints,
    Layout,
    Recipe,
    Row,
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
from srfast.models.residual import ResidualSR

_TANH = "0..1 in; tanh out, -1..1"
_SIGNED = "-1..1 in; tanh out, -1..1"
_IMAGENET = "ImageNet's mean and deviation in"
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
    return Recipe(ResidualSR, arguments | options, with_zero_biases(state, convs))


def _slopes(state: StateDict, name: str) -> str:
    slopes = state.get(f"{name}.weight")
    return "none" if slopes is None else "prelu_channels" if slopes.numel() > 1 else "prelu"


def read_leftthomas(state: StateDict, hints: Hints) -> Recipe:
    """``block1`` .. ``blockN``: head, residual blocks, middle, upsampling with the tail."""
    # Its blocks are counted through, from the head to the upsampling: the last number is the upsampling's, the one before
    # the middle's.
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
    # In float64, as two roundings to float32 would show in the last bit of the result.
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
    # A 1x1 kernel in the middle of a 3x3 one, so that all blocks have the same modules.
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


def read_own(state: StateDict, hints: Hints) -> Recipe:
    """The module's own keys, which leave activations and ranges open."""
    raise CheckpointError(
        "it has the keys of srfast's ResidualSR, but not the metadata that tells its activations and value ranges; "
        "write such files with 'srfast convert' or srfast.checkpoint.save_checkpoint"
    )


ARCHITECTURES = (
    Architecture(
        ResidualSR,
        depth=("num_blocks",),
        layouts=(
            Layout(
                "SRResNet",
                "leftthomas/SRGAN",
                ("block1.0.weight", "block2.conv1.weight", "block2.prelu.weight"),
                read_leftthomas,
                _TANH,
            ),
            Layout(
                "SRResNet",
                "SRGAN-PyTorch 2022",
                ("conv_block1.0.weight", "trunk.0.rcb.0.weight"),
                read_lornatang,
                UNSIGNED,
            ),
            Layout(
                "SRResNet",
                "SRGAN-PyTorch 2021-09",
                ("conv_block1.0.weight", "trunk.0.rc_block.0.weight"),
                read_lornatang,
                "0..1; the result is limited to it, by tanh where the key is conv_block3.0",
            ),
            Layout(
                "SRResNet",
                "SRGAN-PyTorch 2021-08",
                ("conv_block1.0.weight", "residual_blocks.0.conv_block.0.weight"),
                read_lornatang,
                UNSIGNED,
            ),
            Layout(
                "SRResNet",
                "sgrvinod's tutorial",
                ("conv_block1.conv_block.0.weight", "residual_blocks.0.conv_block1.conv_block.0.weight"),
                read_sgrvinod,
                f"{_IMAGENET}; tanh out, -1..1",
            ),
            Layout(
                "SRResNet",
                "twtygqyy/pytorch-SRResNet",
                ("conv_input.weight", "residual.0.conv1.weight", "conv_output.weight"),
                read_twtygqyy,
            ),
            Layout(
                "SRResNet",
                "aitorzip/PyTorch-SRGAN",
                ("conv1.weight", "residual_block1.conv1.weight", "upsample1.conv.weight"),
                read_aitorzip,
                f"{_IMAGENET} and out",
            ),
            Layout(
                "SRResNet",
                "dongheehand/SRGAN-PyTorch",
                ("conv01.body.0.weight", "body.0.body.0.body.0.weight", "last_conv.body.0.weight"),
                read_dongheehand,
                _SIGNED,
            ),
            Layout(
                "Fast-SRGAN",
                "HasnainRaz/Fast-SRGAN",
                ("neck.0.weight", "stem.0.conv1.weight", "upsampling.0.conv.weight"),
                read_fast_srgan,
                _SIGNED,
            ),
            Layout(
                "Swift-SRGAN",
                "Koushik0901/Swift-SRGAN",
                ("initial.cnn.depthwise.weight", "final_conv.pointwise.weight"),
                read_swift,
                _TANH,
            ),
            Layout("ResidualSR", "srfast", ("head.weight", "blocks.0.conv1.weight", "tail.weight"), read_own),
        ),
        rows=(
            Row(
                "MSRResNet, EDSR, SRResNet, SRGAN, Swift-SRGAN, Fast-SRGAN",
                "BasicSR, KAIR, mmagic, EDSR-PyTorch and eight more",
                "exact",
                "`--model-scale 3`, `--res-scale`",
                "`.pth`, `.safetensors`, ONNX",
            ),
        ),
    ),
)
