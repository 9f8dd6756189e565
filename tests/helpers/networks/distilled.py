"""IMDN and RTMoSR as functions over the keys of their own programs, as ``modern`` has others.

What they give for the seeds of ``tests/checkpoint/test_modern.py`` was compared once with those programs (Zheng222/IMDN,
traiNNer-redux), whose results are stored there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.helpers.networks.modern import _three
from tests.helpers.networks.public import Size, Weights


def imdn(w: Weights, x: Tensor, s: Size) -> Tensor:
    kept, middle = s.width // 4, max(1, s.width // 16)
    first = y = w.conv(x, "fea_conv", s.width)
    found = []
    for i in range(1, s.blocks + 1):
        rest, parts = y, []
        for j in (1, 2, 3):
            part, rest = F.leaky_relu(w.conv(rest, f"IMDB{i}.c{j}", s.width), 0.05).split([kept, s.width - kept], 1)
            parts.append(part)
        z = torch.cat([*parts, w.conv(rest, f"IMDB{i}.c4", kept)], 1)
        gains = z.flatten(2).std(2, correction=0) + z.flatten(2).mean(2)
        gains = w.conv(gains[..., None, None], f"IMDB{i}.cca.conv_du.0", middle, 1).relu()
        z = z * torch.sigmoid(w.conv(gains, f"IMDB{i}.cca.conv_du.2", s.width, 1))
        y = w.conv(z, f"IMDB{i}.c5", s.width, 1) + y
        found.append(y)
    y = F.leaky_relu(w.conv(torch.cat(found, 1), "c.0", s.width, 1), 0.05)
    y = w.conv(y, "LR_conv", s.width) + first
    return F.pixel_shuffle(w.conv(y, "upsampler.0", 3 * s.scale**2), s.scale)


def _summed(w: Weights, x: Tensor, key: str, out: int) -> Tensor:
    """Three convolutions beside each other, and a stored sum that is stale."""
    c, middle = x.shape[1], 2 * out
    k0 = w.get(f"{key}.conv1.k0", lambda: w.normal(middle, c, 1, 1, std=0.7 / math.sqrt(c)))
    b0 = w.get(f"{key}.conv1.b0", lambda: w.normal(middle, std=0.1))
    k1 = w.get(f"{key}.conv1.k1", lambda: w.normal(out, middle, 3, 3, std=0.7 / math.sqrt(9 * middle)))
    b1 = w.get(f"{key}.conv1.b1", lambda: w.normal(out, std=0.1))
    inside = F.conv2d(x, k0) + b0.view(-1, 1, 1)
    padded = b0.view(1, -1, 1, 1).repeat(len(x), 1, x.shape[2] + 2, x.shape[3] + 2)
    padded[:, :, 1:-1, 1:-1] = inside
    parts = (F.conv2d(padded, k1, b1), w.conv(x, f"{key}.conv2", out), _three(w, x, f"{key}.conv3", out))
    share = w.get(f"{key}.alpha", lambda: w.normal(3, std=0.2, mean=0.5))
    w.get(f"{key}.conv_3x3_rep.weight", lambda: torch.zeros(out, c, 3, 3))
    w.get(f"{key}.conv_3x3_rep.bias", lambda: torch.zeros(out))
    return sum((a * part for a, part in zip(share, parts, strict=True)), torch.zeros(()))


def _shift(w: Weights, x: Tensor, key: str) -> Tensor:
    """The image and three depthwise convolutions, each with a share for each channel, and a stored sum that is stale."""
    c = x.shape[1]
    parts = [x, *(w.conv(x, f"{key}.conv{k}x{k}", c, k, groups=c) for k in (1, 3, 5))]
    shares = [w.get(f"{key}.alpha{i}", lambda: w.normal(1, c, 1, 1, std=0.2, mean=0.5)) for i in range(1, 5)]
    w.get(f"{key}.conv5x5_reparam.weight", lambda: torch.zeros(c, 1, 5, 5))
    w.get(f"{key}.conv5x5_reparam.bias", lambda: torch.zeros(c))
    return sum((a * part for a, part in zip(shares, parts, strict=True)), torch.zeros(()))


def rtmosr(w: Weights, x: Tensor, s: Size, unshuffle: int = 1, gated: bool = True, light: bool = False) -> Tensor:
    dim, hidden, shuffle = s.width, 3 * s.width // 2 if light else 2 * s.width, s.scale * unshuffle
    height, width = x.shape[2:]
    multiple = 2 * unshuffle
    y = F.pad(x, (0, -width % multiple, 0, -height % multiple), "reflect")
    y = F.pixel_unshuffle(y, unshuffle) if unshuffle > 1 else y
    y = _summed(w, y, "to_feat.1" if unshuffle > 1 else "to_feat", dim)
    for i in range(s.blocks):
        key = f"body.{i}"
        scale = w.get(f"{key}.norm.scale", lambda: w.normal(dim, std=0.2, mean=1))
        offset = w.get(f"{key}.norm.offset", lambda: w.normal(dim, std=0.2))
        size = y.norm(2, dim=1, keepdim=True) / math.sqrt(dim) + 1e-6
        z = _summed(w, y / size * scale.view(-1, 1, 1) + offset.view(-1, 1, 1), f"{key}.fc1", 2 * hidden)
        gains, passing, read = z.split([hidden, hidden - dim, dim], 1)
        z = F.pixel_unshuffle(read, 2) + _summed(w, F.max_pool2d(read, 2), f"{key}.conv.0.poll.1", 4 * dim)
        z = _shift(w, z, f"{key}.conv.1")
        if gated:
            squeezed = w.conv(z.mean((2, 3), keepdim=True), f"{key}.conv.2.squeezing.0", 2 * dim, 1).relu()
            z = z * F.hardsigmoid(w.conv(squeezed, f"{key}.conv.2.squeezing.2", 4 * dim, 1))
        z = F.mish(gains) * torch.cat([passing, F.pixel_shuffle(z, 2)], 1)
        z = w.conv(z, f"{key}.fc2", dim, 1) if light else _summed(w, z, f"{key}.fc2", dim)
        y = F.mish(z) + y
    y = F.pixel_shuffle(_summed(w, y, "to_img.0", 3 * shuffle**2), shuffle)
    return y[:, :, : height * s.scale, : width * s.scale] + F.interpolate(x, scale_factor=s.scale)
