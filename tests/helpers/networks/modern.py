"""SPAN, SPANF3, Real-CUGAN, RCAN and ArtCNN as functions over the keys of their own programs, as ``public`` has others.

What they give for the seeds of ``tests/checkpoint/test_modern.py`` was compared once with spandrel 0.4.2 (SPAN, Real-CUGAN,
RCAN), whose results are stored there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.helpers.networks.public import DIV2K, Size, Weights


def _three(w: Weights, x: Tensor, key: str, out: int) -> Tensor:
    """1x1, 3x3 and 1x1 convolutions of the padded image, and a 1x1 shortcut; beside them a stored sum that is stale."""
    gain, c = 2, x.shape[1]
    y = F.pad(x, (1, 1, 1, 1))
    for i, (inputs, outputs, k) in enumerate(((c, c * gain, 1), (c * gain, out * gain, 3), (out * gain, out, 1))):
        shape = (outputs, inputs, k, k)
        weight = w.get(f"{key}.conv.{i}.weight", lambda s=shape: w.normal(*s, std=0.8 / math.sqrt(s[1] * s[2] ** 2)))
        y = F.conv2d(y, weight, w.get(f"{key}.conv.{i}.bias", lambda n=outputs: w.normal(n, std=0.1)))
    y = y + w.conv(x, f"{key}.sk", out, 1)
    w.get(f"{key}.eval_conv.weight", lambda: torch.zeros(out, c, 3, 3))
    w.get(f"{key}.eval_conv.bias", lambda: torch.zeros(out))
    return y


def span(w: Weights, x: Tensor, s: Size, norm: bool = True) -> Tensor:
    if norm:
        x = (x - DIV2K) * 255
    else:
        w.get("no_norm", lambda: torch.zeros(1))
    # The images are 255 times as large as the weights are made for.
    first = out = _three(w, x / 255 if norm else x, "conv_1", s.width)
    if norm:
        for key in ("conv_1.conv.0.weight", "conv_1.sk.weight"):
            w.state[key] = w.state[key] / 255
    early = middle = first
    for i in range(1, s.blocks + 1):
        middle = F.silu(_three(w, out, f"block_{i}.c1_r", s.width))
        y = _three(w, F.silu(_three(w, middle, f"block_{i}.c2_r", s.width)), f"block_{i}.c3_r", s.width)
        out = (y + out) * (torch.sigmoid(y) - 0.5)
        early = out if i == 1 else early
    y = w.conv(torch.cat([first, _three(w, out, "conv_2", s.width), early, middle], 1), "conv_cat", s.width, 1)
    return F.pixel_shuffle(w.conv(y, "upsampler.0", 3 * s.scale**2), s.scale)


def span_without_mean(w: Weights, x: Tensor, s: Size) -> Tensor:
    return span(w, x, s, norm=False)


def spanf3(w: Weights, x: Tensor, s: Size, unshuffle: int = 1) -> Tensor:
    height, width = x.shape[2:]
    x = F.pad(x, (0, -width % unshuffle, 0, -height % unshuffle), "reflect") if unshuffle > 1 else x
    shuffle = s.scale * unshuffle
    head = "conv_1.1" if unshuffle > 1 else "conv_1"
    first = out = _three(w, F.pixel_unshuffle(x, unshuffle), head, s.width)
    early = middle = first
    for i in range(1, s.blocks + 1):
        middle = F.relu(_three(w, out, f"block_{i}.c1_r", s.width))
        y = _three(w, F.relu(_three(w, middle, f"block_{i}.c2_r", s.width)), f"block_{i}.c3_r", s.width)
        out = (out + y) * torch.tanh(w.conv(y, f"block_{i}.att_conv", s.width, 1))
        early = out if i == 1 else early
    y = w.conv(torch.cat([first, out, early, middle], 1), "conv_cat", s.width, 1)
    y = F.pixel_shuffle(_three(w, y, "to_pixel", 3 * shuffle**2), shuffle)
    return y[:, :, : height * s.scale, : width * s.scale]


def spanf3_unshuffled(w: Weights, x: Tensor, s: Size) -> Tensor:
    return spanf3(w, x, s, 4 // s.scale)


def artcnn(w: Weights, x: Tensor, s: Size) -> Tensor:
    first = out = w.conv(x, "conv0", s.width)
    for i in range(s.blocks):
        y = F.relu(w.conv(out, f"res_block.{i}.conv.0.0", s.width))
        y = F.relu(w.conv(y, f"res_block.{i}.conv.1.0", s.width))
        out = out + w.conv(y, f"res_block.{i}.conv.2", s.width)
    out = first + w.conv(out, f"res_block.{s.blocks}", s.width)
    return F.pixel_shuffle(w.conv(out, "depth_to_space.upscale.0", 3 * s.scale**2), s.scale)


def rcan(w: Weights, x: Tensor, s: Size, white: float = 255.0, unshuffle: int = 1) -> Tensor:
    height, width = x.shape[2:]
    if white:
        for name, sign in (("sub_mean", -1), ("add_mean", 1)):
            w.get(f"{name}.weight", lambda: torch.eye(3).view(3, 3, 1, 1))
            w.get(f"{name}.bias", lambda k=sign: k * white * DIV2K.flatten())
        x = (x - DIV2K) * white
    x = F.pad(x, (0, -width % unshuffle, 0, -height % unshuffle), "reflect") if unshuffle > 1 else x
    head = "head.1" if unshuffle > 1 else "head.0"
    first = out = w.conv(F.pixel_unshuffle(x, unshuffle), head, s.width)
    for g in range(2):
        group = out
        for b in range(s.blocks):
            y = w.conv(F.relu(w.conv(out, f"body.{g}.body.{b}.body.0", s.width)), f"body.{g}.body.{b}.body.2", s.width)
            key = f"body.{g}.body.{b}.body.3.conv_du"
            means = F.relu(w.conv(y.mean((2, 3), keepdim=True), f"{key}.0", 2, 1))
            out = out + y * torch.sigmoid(w.conv(means, f"{key}.2", s.width, 1))
        out = group + w.conv(out, f"body.{g}.body.{s.blocks}", s.width)
    out = first + w.conv(out, "body.2", s.width)
    factors = [3] if s.scale * unshuffle == 3 else [2] * int(math.log2(s.scale * unshuffle))
    for i, factor in enumerate(factors):
        out = F.pixel_shuffle(w.conv(out, f"tail.0.{2 * i}", s.width * factor**2), factor)
    out = w.conv(out, "tail.1", 3)
    out = out / white + DIV2K if white else out
    return out[:, :, : height * s.scale, : width * s.scale]


def rcan_unshuffled(w: Weights, x: Tensor, s: Size) -> Tensor:
    return rcan(w, x, s, 0.0, 4 // s.scale)


def _valid(w: Weights, x: Tensor, key: str, out: int, k: int, stride: int = 1) -> Tensor:
    shape = (out, x.shape[1], k, k)
    weight = w.get(f"{key}.weight", lambda: w.normal(*shape, std=1.2 / math.sqrt(shape[1] * k * k)))
    return F.conv2d(x, weight, w.get(f"{key}.bias", lambda: w.normal(out, std=0.1)), stride)


def _up(w: Weights, x: Tensor, key: str, out: int, k: int, stride: int, padding: int) -> Tensor:
    shape = (x.shape[1], out, k, k)
    weight = w.get(f"{key}.weight", lambda: w.normal(*shape, std=1.2 * stride / math.sqrt(shape[0] * k * k)))
    return F.conv_transpose2d(x, weight, w.get(f"{key}.bias", lambda: w.normal(out, std=0.1)), stride, padding)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


def _pair(w: Weights, x: Tensor, key: str, middle: int, out: int, se: bool) -> Tensor:
    y = _leaky(_valid(w, _leaky(_valid(w, x, f"{key}.conv.0", middle, 3)), f"{key}.conv.2", out, 3))
    if se:
        means = F.relu(w.conv(y.mean((2, 3), keepdim=True), f"{key}.seblock.conv1", out // 8, 1))
        y = y * torch.sigmoid(w.conv(means, f"{key}.seblock.conv2", out, 1))
    return y


def cugan(w: Weights, x: Tensor, scale: int, se: bool = True, pro: bool = False, fast: bool = False) -> Tensor:
    """Real-CUGAN has one width."""
    height, width = x.shape[2:]
    if pro:
        w.get("pro", lambda: torch.zeros(1))
        x = x * 0.7 + 0.15
    image, planes = x, 64 if fast or scale == 4 else 3
    border, multiple = (38, 4) if fast else {2: (18, 2), 3: (14, 4), 4: (19, 2)}[scale]
    x = F.pad(x, (border, border + -width % multiple, border, border + -height % multiple), "reflect")
    x = F.pixel_unshuffle(x, 2) if fast else x
    a = _pair(w, x, "unet1.conv1", 32, 64, False)
    b = _pair(w, _leaky(_valid(w, a, "unet1.conv1_down", 64, 2, 2)), "unet1.conv2", 128, 64, se)
    b = _leaky(_up(w, b, "unet1.conv2_up", 64, 2, 2, 0)) + F.pad(a, (-4,) * 4)
    b = _leaky(_valid(w, b, "unet1.conv3", 64, 3))
    x = (
        _up(w, b, "unet1.conv_bottom", planes, 5, 3, 2)
        if scale == 3
        else _up(w, b, "unet1.conv_bottom", planes, 4, 2, 3)
    )
    a = _pair(w, x, "unet2.conv1", 32, 64, False)
    b = _pair(w, _leaky(_valid(w, a, "unet2.conv1_down", 64, 2, 2)), "unet2.conv2", 64, 128, se)
    c = _pair(w, _leaky(_valid(w, b, "unet2.conv2_down", 128, 2, 2)), "unet2.conv3", 256, 128, se)
    c = _leaky(_up(w, c, "unet2.conv3_up", 128, 2, 2, 0)) + F.pad(b, (-4,) * 4)
    c = _leaky(_up(w, _pair(w, c, "unet2.conv4", 64, 64, se), "unet2.conv4_up", 64, 2, 2, 0)) + F.pad(a, (-16,) * 4)
    y = _valid(w, _leaky(_valid(w, c, "unet2.conv5", 64, 3)), "unet2.conv_bottom", planes, 3) + F.pad(x, (-20,) * 4)
    if planes == 64:
        y = F.pixel_shuffle(F.pad(_valid(w, y, "conv_final", 12, 3), (-1,) * 4), 2)
    y = y[:, :, : height * scale, : width * scale]
    y = y + F.interpolate(image, scale_factor=scale, mode="nearest") if planes == 64 else y
    return (y - 0.15) / 0.7 if pro else y


def dysample(w: Weights, x: Tensor, key: str, planes: int, scale: int, groups: int) -> Tensor:
    """Every new pixel by a loop over groups and over its place in the pixel that it comes from."""
    n, channels, h, width = x.shape
    amount = 2 * groups * scale * scale
    moves = (
        w.conv(x, f"{key}.offset", amount, 1) * torch.sigmoid(w.conv(x, f"{key}.scope", amount, 1, bias=False)) * 0.5
    )
    steps = [(i - (scale - 1) / 2) / scale for i in range(scale)]
    regular = [[steps[i % scale] for i in range(scale * scale)], [steps[i // scale] for i in range(scale * scale)]]
    places = torch.tensor([value for half in regular for _ in range(groups) for value in half])
    moves = (moves + w.get(f"{key}.init_pos", lambda: places.view(1, -1, 1, 1))).view(
        n, 2, groups, scale, scale, h, width
    )
    out = x.new_empty(n, channels, h * scale, width * scale)
    part = channels // groups
    for g in range(groups):
        for i in range(scale):
            for j in range(scale):
                across = torch.arange(width) + moves[:, 0, g, i, j]
                down = torch.arange(h)[:, None] + moves[:, 1, g, i, j]
                across, down = across.clamp(0, width - 1), down.clamp(0, h - 1)
                left, top = across.floor().long(), down.floor().long()
                right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=h - 1)
                a, b = (across - left)[:, None], (down - top)[:, None]
                for sample in range(n):
                    image = x[sample, g * part : (g + 1) * part]
                    rows, (left_, right_) = (top[sample], bottom[sample]), (left[sample], right[sample])
                    above, below = (
                        image[:, r, left_] * (1 - a[sample]) + image[:, r, right_] * a[sample] for r in rows
                    )
                    value = above * (1 - b[sample]) + below * b[sample]
                    out[sample, g * part : (g + 1) * part, i::scale, j::scale] = value
    return w.conv(out, f"{key}.end_conv", planes, 1)


def mosr(w: Weights, x: Tensor, s: Size, upsampler: str = "ps") -> Tensor:
    hidden, deep = 2 * s.width - 2, s.width
    out = w.conv(x, "gblocks.0", s.width)
    for i in range(1, s.blocks + 1):
        scale = w.get(f"gblocks.{i}.norm.weight", lambda: w.normal(s.width, std=0.2, mean=1))
        shift = w.get(f"gblocks.{i}.norm.bias", lambda: w.normal(s.width, std=0.2))
        mean = out.mean(1, keepdim=True)
        y = (out - mean) / ((out - mean).square().mean(1, keepdim=True) + 1e-6).sqrt()
        y = w.conv(y * scale.view(-1, 1, 1) + shift.view(-1, 1, 1), f"gblocks.{i}.fc1", 2 * hidden)
        gains, passing, read = y.split([hidden, hidden - deep, deep], 1)
        y = torch.cat([passing, w.conv(read, f"gblocks.{i}.conv", deep, 7, groups=deep)], 1)
        out = F.mish(w.conv(F.mish(gains) * y, f"gblocks.{i}.fc2", s.width)) + out - 0.5
    last = s.blocks + 1
    y = F.mish(w.conv(out, f"gblocks.{last}", 2 * s.width))
    y = w.conv(F.mish(w.conv(y, f"gblocks.{last + 2}", s.width)), f"gblocks.{last + 4}", s.width, 1)
    short = F.mish(w.conv(F.mish(w.conv(x, "shortcut.block.0", s.width)), "shortcut.block.2", s.width))
    y = y + short + w.conv(x, "shortcut.conv11", s.width, 1) - 0.5
    if upsampler == "dys":
        return dysample(w, y, "upsampler", 3, s.scale, 4)
    if upsampler == "gps":
        y = w.conv(y, "upsampler.in_to_k", 8 * 3 * s.scale**2)
        return F.pixel_shuffle(sum(y.chunk(8, 1)) / 8, s.scale)
    return F.pixel_shuffle(w.conv(y, "upsampler.0", 3 * s.scale**2), s.scale)


def mosr_ensemble(w: Weights, x: Tensor, s: Size) -> Tensor:
    return mosr(w, x, s, "gps")


def mosr_dysample(w: Weights, x: Tensor, s: Size) -> Tensor:
    return mosr(w, x, s, "dys")


def plksr_dysample(w: Weights, x: Tensor, s: Size) -> Tensor:
    return plksr(w, x, s, sampled=True)


def plksr(w: Weights, x: Tensor, s: Size, layer_norm: bool = True, sampled: bool = False) -> Tensor:
    out = w.conv(x, "feats.0", s.width)
    part = s.width // 4
    for i in range(1, s.blocks + 1):
        y = out

        def vector(name: str, mean: float, at: int = i) -> Tensor:
            return w.get(f"feats.{at}.{name}", lambda: w.normal(s.width, std=0.2, mean=mean))

        if layer_norm:
            mean = y.mean(1, keepdim=True)
            y = (y - mean) / ((y - mean).square().mean(1, keepdim=True) + 1e-6).sqrt()
            y = y * vector("layer_norm.weight", 1).view(-1, 1, 1) + vector("layer_norm.bias", 0).view(-1, 1, 1)
        y = w.conv(F.mish(w.conv(y, f"feats.{i}.channel_mixer.0", 2 * s.width)), f"feats.{i}.channel_mixer.2", s.width)
        y = torch.cat([w.conv(y[:, :part], f"feats.{i}.lk.conv", part, 17), y[:, part:]], 1)
        y = w.conv(y * torch.sigmoid(w.conv(y, f"feats.{i}.attn.f.0", s.width)), f"feats.{i}.refine", s.width, 1)
        if not layer_norm:
            y = F.group_norm(y, 4, vector("norm.weight", 1), vector("norm.bias", 0))
        out = out + y
    y = w.conv(out, f"feats.{s.blocks + 2}", 3 * s.scale**2)
    y = y + x.repeat_interleave(s.scale**2, 1)
    return dysample(w, y, "to_img", 3, s.scale, 3 if s.scale % 2 else 4) if sampled else F.pixel_shuffle(y, s.scale)


def plksr_groups(w: Weights, x: Tensor, s: Size) -> Tensor:
    return plksr(w, x, s, layer_norm=False)
