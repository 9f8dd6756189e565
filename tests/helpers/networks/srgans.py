"""The public SRGAN generators as functions over their own keys, as in ``public_networks``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.helpers.networks.public import MEAN, STD, Size, Weights


def leftthomas(w: Weights, x: Tensor, s: Size, batch: bool = False) -> Tensor:
    first = out = w.prelu(w.conv(x, "block1.0", s.width, 9), "block1.1")
    for i in range(2, s.blocks + 2):
        y = w.prelu(w.batch(w.conv(out, f"block{i}.conv1", s.width), f"block{i}.bn1"), f"block{i}.prelu")
        out = out + w.batch(w.conv(y, f"block{i}.conv2", s.width), f"block{i}.bn2")
    n = s.blocks + 2
    out = w.conv(out, f"block{n}.0", s.width)
    out = first + (w.batch(out, f"block{n}.1") if batch else w.prelu(out, f"block{n}.1"))
    for step in range(s.steps):
        key = f"block{n + 1}.{step}"
        out = w.prelu(F.pixel_shuffle(w.conv(out, f"{key}.conv", s.width * 4), 2), f"{key}.prelu")
    return (torch.tanh(w.conv(out, f"block{n + 1}.{s.steps}", 3, 9)) + 1) / 2


def leftthomas_fork(w: Weights, x: Tensor, s: Size) -> Tensor:
    return leftthomas(w, x, s, batch=True)


def _lornatang(
    w: Weights,
    x: Tensor,
    s: Size,
    names: tuple[str, str, str, str],
    step: Callable[[Weights, Tensor, int], Tensor],
    tanh: bool = False,
) -> Tensor:
    conv, trunk, block, last = names
    first = out = w.prelu(w.conv(x, f"{conv}1.0", s.width, 9), f"{conv}1.1")
    for i in range(s.blocks):
        key = f"{trunk}.{i}.{block}"
        y = w.prelu(w.batch(w.conv(out, f"{key}.0", s.width, bias=False), f"{key}.1"), f"{key}.2")
        out = out + w.batch(w.conv(y, f"{key}.3", s.width, bias=False), f"{key}.4")
    out = first + w.batch(w.conv(out, f"{conv}2.0", s.width, bias=False), f"{conv}2.1")
    for i in range(s.steps):
        out = step(w, out, i)
    out = w.conv(out, last, 3, 9)
    return torch.tanh(out) if tanh else out.clamp(0, 1)


def _step_blocks(w: Weights, x: Tensor, i: int) -> Tensor:
    key = f"upsampling.{i}.upsample_block"
    return w.prelu(F.pixel_shuffle(w.conv(x, f"{key}.0", x.shape[1] * 4), 2), f"{key}.2")


def _step_flat(w: Weights, x: Tensor, i: int) -> Tensor:
    return w.prelu(F.pixel_shuffle(w.conv(x, f"upsampling.{3 * i}", x.shape[1] * 4), 2), f"upsampling.{3 * i + 2}")


def _step_batch(w: Weights, x: Tensor, i: int) -> Tensor:
    y = w.batch(w.conv(x, f"upsampling.{4 * i}", x.shape[1] * 4, bias=False), f"upsampling.{4 * i + 1}")
    return w.prelu(F.pixel_shuffle(y, 2), f"upsampling.{4 * i + 3}")


def lornatang_now(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _lornatang(w, x, s, ("conv", "trunk", "rcb", "conv3"), _step_blocks)


def lornatang_2022(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _lornatang(w, x, s, ("conv_block", "trunk", "rcb", "conv_block3"), _step_blocks)


def lornatang_2021_09(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _lornatang(w, x, s, ("conv_block", "trunk", "rc_block", "conv_block3"), _step_flat)


def lornatang_2021_09_tanh(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _lornatang(w, x, s, ("conv_block", "trunk", "rc_block", "conv_block3.0"), _step_flat, tanh=True)


def lornatang_2021_08(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _lornatang(w, x, s, ("conv_block", "residual_blocks", "conv_block", "conv_block3"), _step_batch)


def sgrvinod(w: Weights, x: Tensor, s: Size) -> Tensor:
    x = (x - MEAN) / STD
    first = out = w.prelu(w.conv(x, "conv_block1.conv_block.0", s.width, 9), "conv_block1.conv_block.1")
    for i in range(s.blocks):
        a, b = (f"residual_blocks.{i}.conv_block{n}.conv_block" for n in (1, 2))
        y = w.prelu(w.batch(w.conv(out, f"{a}.0", s.width), f"{a}.1"), f"{a}.2")
        out = out + w.batch(w.conv(y, f"{b}.0", s.width), f"{b}.1")
    out = first + w.batch(w.conv(out, "conv_block2.conv_block.0", s.width), "conv_block2.conv_block.1")
    for i in range(s.steps):
        key = f"subpixel_convolutional_blocks.{i}"
        out = w.prelu(F.pixel_shuffle(w.conv(out, f"{key}.conv", s.width * 4), 2), f"{key}.prelu")
    return (torch.tanh(w.conv(out, "conv_block3.conv_block.0", 3, 9)) + 1) / 2


def twtygqyy(w: Weights, x: Tensor, s: Size, batch: bool = False) -> Tensor:
    norm, name = (w.batch, "bn") if batch else (w.instance, "in")
    first = out = F.leaky_relu(w.conv(x, "conv_input", s.width, 9, bias=False), 0.2)
    for i in range(s.blocks):
        y = norm(w.conv(out, f"residual.{i}.conv1", s.width, bias=False), f"residual.{i}.{name}1")
        y = w.conv(F.leaky_relu(y, 0.2), f"residual.{i}.conv2", s.width, bias=False)
        out = out + norm(y, f"residual.{i}.{name}2")
    out = first + norm(w.conv(out, "conv_mid", s.width, bias=False), "bn_mid")
    for i in range(s.steps):
        out = F.leaky_relu(F.pixel_shuffle(w.conv(out, f"upscale4x.{3 * i}", s.width * 4, bias=False), 2), 0.2)
    return w.conv(out, "conv_output", 3, 9, bias=False)


def twtygqyy_batch(w: Weights, x: Tensor, s: Size) -> Tensor:
    return twtygqyy(w, x, s, batch=True)


def aitorzip(w: Weights, x: Tensor, s: Size) -> Tensor:
    first = out = F.silu(w.conv((x - MEAN) / STD, "conv1", s.width, 9))
    for i in range(1, s.blocks + 1):
        key = f"residual_block{i}"
        y = F.silu(w.batch(w.conv(out, f"{key}.conv1", s.width), f"{key}.bn1"))
        out = out + w.batch(w.conv(y, f"{key}.conv2", s.width), f"{key}.bn2")
    out = first + w.batch(w.conv(out, "conv2", s.width), "bn2")
    for i in range(1, s.steps + 1):
        out = F.silu(F.pixel_shuffle(w.conv(out, f"upsample{i}.conv", s.width * 4), 2))
    return w.conv(out, "conv3", 3, 9) * STD + MEAN


def dongheehand(w: Weights, x: Tensor, s: Size) -> Tensor:
    slope = w.get("conv01.body.1.weight", lambda: torch.tensor([0.3]))

    def act(y: Tensor, key: str) -> Tensor:
        return F.prelu(y, w.get(f"{key}.weight", lambda: slope))

    first = out = act(w.conv(2 * x - 1, "conv01.body.0", s.width, 9), "conv01.body.1")
    for i in range(s.blocks):
        a, b = (f"body.{i}.body.{n}.body" for n in (0, 1))
        y = act(w.batch(w.conv(out, f"{a}.0", s.width), f"{a}.1"), f"{a}.2")
        out = out + w.batch(w.conv(y, f"{b}.0", s.width), f"{b}.1")
    out = first + w.batch(w.conv(out, "conv02.body.0", s.width), "conv02.body.1")
    for i in range(s.steps):
        y = w.conv(out, f"tail.{i}.body.0.body.0", s.width * s.factor**2)
        out = act(F.pixel_shuffle(y, s.factor), f"tail.{i}.body.2")
    return (torch.tanh(w.conv(out, "last_conv.body.0", 3)) + 1) / 2


def fast_srgan(w: Weights, x: Tensor, s: Size) -> Tensor:
    first = out = w.prelu(w.conv(2 * x - 1, "neck.0", s.width), "neck.1")
    for i in range(s.blocks):
        y = w.prelu(F.instance_norm(w.conv(out, f"stem.{i}.conv1", s.width, bias=False)), f"stem.{i}.relu1")
        out = out + F.instance_norm(w.conv(y, f"stem.{i}.conv2", s.width, bias=False))
    out = first + F.instance_norm(w.conv(out, "bottleneck.0", s.width, bias=False))
    return _fast_srgan_end(w, out, s)


def fast_srgan_separable(w: Weights, x: Tensor, s: Size) -> Tensor:
    first = out = w.prelu(w.conv(2 * x - 1, "neck.0", s.width), "neck.1")
    for i in range(s.blocks):
        y = w.batch(w.conv(out, f"stem.{i}.conv1", s.width, bias=False, groups=s.width), f"stem.{i}.bn1")
        y = w.conv(w.prelu(y, f"stem.{i}.relu1"), f"stem.{i}.conv2", s.width, 1, bias=False)
        out = out + w.batch(y, f"stem.{i}.bn2")
    out = first + w.batch(w.conv(out, "bottleneck.0", s.width, bias=False), "bottleneck.1")
    return _fast_srgan_end(w, out, s)


def _fast_srgan_end(w: Weights, out: Tensor, s: Size) -> Tensor:
    for i in range(s.steps):
        y = F.pixel_shuffle(w.conv(out, f"upsampling.{i}.conv", s.width * 4), 2)
        out = w.prelu(y, f"upsampling.{i}.relu")
    return (torch.tanh(w.conv(out, "head.0", 3)) + 1) / 2


def swift_srgan(w: Weights, x: Tensor, s: Size) -> Tensor:
    def conv(y: Tensor, key: str, out: int, k: int = 3, bias: bool = False) -> Tensor:
        y = w.conv(y, f"{key}.depthwise", y.shape[1], k, bias, groups=y.shape[1])
        return w.conv(y, f"{key}.pointwise", out, 1, bias)

    first = out = w.prelu(conv(x, "initial.cnn", s.width, 9, bias=True), "initial.act", s.width)
    for i in range(s.blocks):
        a, b = (f"residual.{i}.block{n}" for n in (1, 2))
        y = w.prelu(w.batch(conv(out, f"{a}.cnn", s.width), f"{a}.bn"), f"{a}.act", s.width)
        out = out + w.batch(conv(y, f"{b}.cnn", s.width), f"{b}.bn")
        w.get(f"{b}.act.weight", lambda: torch.full((s.width,), 0.25))  # stored, never used
    out = first + w.batch(conv(out, "convblock.cnn", s.width), "convblock.bn")
    w.get("convblock.act.weight", lambda: torch.full((s.width,), 0.25))
    for i in range(s.steps):
        y = F.pixel_shuffle(conv(out, f"upsampler.{i}.conv", s.width * 4, bias=True), 2)
        out = w.prelu(y, f"upsampler.{i}.act", s.width)
    return (torch.tanh(conv(out, "final_conv", 3, 9, bias=True)) + 1) / 2
