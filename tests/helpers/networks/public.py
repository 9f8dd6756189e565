"""Public networks as functions over their own keys: they make random weights as they go, and so a state_dict of each layout.

Written from the papers and the repositories' classes, independently of ``srfast.models``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
DIV2K = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)


@dataclass
class Weights:
    """Weights by key, made on first use."""

    generator: torch.Generator
    state: dict[str, Tensor] = field(default_factory=dict)

    def get(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        if key not in self.state:
            self.state[key] = make()
        return self.state[key]

    def normal(self, *shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(*shape, generator=self.generator) * std + mean

    def conv(self, x: Tensor, key: str, out: int, k: int = 3, bias: bool = True, groups: int = 1) -> Tensor:
        fan = x.shape[1] // groups * k * k
        weight = self.get(f"{key}.weight", lambda: self.normal(out, x.shape[1] // groups, k, k, std=1 / math.sqrt(fan)))
        b = self.get(f"{key}.bias", lambda: self.normal(out, std=0.1)) if bias else None
        return F.conv2d(x, weight, b, padding=k // 2, groups=groups)

    def batch(self, x: Tensor, key: str) -> Tensor:
        n = x.shape[1]
        weight = self.get(f"{key}.weight", lambda: self.normal(n, std=0.2, mean=1))
        bias = self.get(f"{key}.bias", lambda: self.normal(n, std=0.1))
        mean = self.get(f"{key}.running_mean", lambda: self.normal(n, std=0.2))
        var = self.get(f"{key}.running_var", lambda: self.normal(n, std=0.3).abs() + 0.5)
        self.get(f"{key}.num_batches_tracked", lambda: torch.tensor(7))
        return F.batch_norm(x, mean, var, weight, bias)

    def instance(self, x: Tensor, key: str) -> Tensor:
        weight = self.get(f"{key}.weight", lambda: self.normal(x.shape[1], std=0.2, mean=1))
        return F.instance_norm(x, weight=weight, bias=self.get(f"{key}.bias", lambda: self.normal(x.shape[1], std=0.1)))

    def prelu(self, x: Tensor, key: str, slopes: int = 1) -> Tensor:
        return F.prelu(x, self.get(f"{key}.weight", lambda: self.normal(slopes, std=0.2, mean=0.2)))


@dataclass(frozen=True)
class Size:
    """Hyper-parameters of one network."""

    width: int
    blocks: int
    steps: int = 2
    factor: int = 2
    growth: int = 3

    @property
    def scale(self) -> int:
        return self.factor**self.steps


def repeat(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="nearest")


def _rrdb_body(w: Weights, x: Tensor, s: Size, key: Callable[[int, int, str], str], plus: bool = False) -> Tensor:
    out = x
    for i in range(s.blocks):
        block = out
        for j in (1, 2, 3):
            parts = [out]
            for k in (1, 2, 3, 4):
                y = F.leaky_relu(w.conv(torch.cat(parts, 1), key(i, j, f"conv{k}"), s.growth), 0.2)
                if plus and k == 2:
                    y = y + w.conv(out, key(i, j, "conv1x1").removesuffix(".0"), s.growth, 1, bias=False)
                if plus and k == 4:
                    y = y + parts[2]
                parts.append(y)
            out = w.conv(torch.cat(parts, 1), key(i, j, "conv5"), s.width) * 0.2 + out
        out = out * 0.2 + block
    return out


def esrgan_old(w: Weights, x: Tensor, s: Size, plus: bool = False) -> Tensor:
    first = w.conv(x, "model.0", s.width)
    out = _rrdb_body(w, first, s, lambda i, j, c: f"model.1.sub.{i}.RDB{j}.{c}.0", plus)
    out = first + w.conv(out, f"model.1.sub.{s.blocks}", s.width)
    for step in range(s.steps):
        out = F.leaky_relu(w.conv(repeat(out, s.factor), f"model.{3 + 3 * step}", s.width), 0.2)
    n = 2 + 3 * s.steps
    return w.conv(F.leaky_relu(w.conv(out, f"model.{n}", s.width), 0.2), f"model.{n + 2}", 3)


def esrgan_plus(w: Weights, x: Tensor, s: Size) -> Tensor:
    return esrgan_old(w, x, s, plus=True)


def _rrdb(w: Weights, x: Tensor, s: Size, body: Callable[[int, int, str], str], names: tuple[str, str, str]) -> Tensor:
    trunk, up, hr = names
    first = w.conv(x, "conv_first", s.width)
    out = first + w.conv(_rrdb_body(w, first, s, body), trunk, s.width)
    for step in range(s.steps):
        out = F.leaky_relu(w.conv(repeat(out, s.factor), f"{up}{step + 1}", s.width), 0.2)
    return w.conv(F.leaky_relu(w.conv(out, hr, s.width), 0.2), "conv_last", 3)


def esrgan_middle(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _rrdb(w, x, s, lambda i, j, c: f"RRDB_trunk.{i}.RDB{j}.{c}", ("trunk_conv", "upconv", "HRconv"))


def esrgan_new(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _rrdb(w, x, s, lambda i, j, c: f"body.{i}.rdb{j}.{c}", ("conv_body", "conv_up", "conv_hr"))


def real_esrgan_x2(w: Weights, x: Tensor, s: Size) -> Tensor:
    return esrgan_new(w, F.pixel_unshuffle(x, 2), s)


def real_esrgan_x1(w: Weights, x: Tensor, s: Size) -> Tensor:
    return esrgan_new(w, F.pixel_unshuffle(x, 4), s)


def _msrresnet(
    w: Weights, x: Tensor, s: Size, body: str, up: Callable[[int], str], hr: str, act: bool = True
) -> Tensor:
    out = F.leaky_relu(w.conv(x, "conv_first", s.width), 0.1)
    for i in range(s.blocks):
        out = out + w.conv(F.relu(w.conv(out, f"{body}.{i}.conv1", s.width)), f"{body}.{i}.conv2", s.width)
    for step in range(s.steps):
        out = F.pixel_shuffle(w.conv(out, up(step + 1), s.width * s.factor**2), s.factor)
        out = F.leaky_relu(out, 0.1) if act else out
    out = w.conv(F.leaky_relu(w.conv(out, hr, s.width), 0.1), "conv_last", 3)
    return out + F.interpolate(x, scale_factor=s.scale, mode="bilinear", align_corners=False)


def msrresnet(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _msrresnet(w, x, s, "body", lambda n: f"upconv{n}", "conv_hr")


def msrresnet_old(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _msrresnet(w, x, s, "recon_trunk", lambda n: f"upconv{n}", "HRconv")


def msrresnet_mmagic(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _msrresnet(w, x, s, "trunk_net", lambda n: f"upsample{n}.upsample_conv", "conv_hr", act=False)


def _srresnet_first(w: Weights, x: Tensor, s: Size, batch: bool, shuffle: bool, last_bias: bool) -> Tensor:
    first = out = w.conv(x, "model.0", s.width)
    for i in range(s.blocks):
        y = w.conv(out, f"model.1.sub.{i}.res.0", s.width)
        y = F.relu(w.batch(y, f"model.1.sub.{i}.res.1") if batch else y)
        y = w.conv(y, f"model.1.sub.{i}.res.{3 if batch else 2}", s.width)
        out = out + (w.batch(y, f"model.1.sub.{i}.res.4") if batch else y)
    out = w.conv(out, f"model.1.sub.{s.blocks}", s.width)
    out = first + (w.batch(out, f"model.1.sub.{s.blocks + 1}") if batch else out)
    for step in range(s.steps):
        if shuffle:
            out = F.relu(F.pixel_shuffle(w.conv(out, f"model.{2 + 3 * step}", s.width * s.factor**2), s.factor))
        else:
            out = F.relu(w.conv(repeat(out, s.factor), f"model.{3 + 3 * step}", s.width))
    n = 2 + 3 * s.steps
    return w.conv(F.relu(w.conv(out, f"model.{n}", s.width)), f"model.{n + 2}", 3, bias=last_bias)


def srresnet_basicsr_first(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _srresnet_first(w, x, s, batch=True, shuffle=False, last_bias=True)


def srresnet_kair(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _srresnet_first(w, x, s, batch=False, shuffle=False, last_bias=False)


def srresnet_kair_shuffle(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _srresnet_first(w, x, s, batch=False, shuffle=True, last_bias=False)


def compact(w: Weights, x: Tensor, s: Size, act: str = "prelu") -> Tensor:
    out = x
    for i in range(s.blocks + 1):
        out = w.conv(out, f"body.{2 * i}", s.width)
        if act == "prelu":
            out = w.prelu(out, f"body.{2 * i + 1}", s.width)
        else:
            out = F.relu(out) if act == "relu" else F.leaky_relu(out, 0.1)
    out = w.conv(out, f"body.{2 * s.blocks + 2}", 3 * s.scale**2)
    return F.pixel_shuffle(out, s.scale) + repeat(x, s.scale)


def compact_relu(w: Weights, x: Tensor, s: Size) -> Tensor:
    return compact(w, x, s, "relu")


def compact_leaky(w: Weights, x: Tensor, s: Size) -> Tensor:
    return compact(w, x, s, "leakyrelu")


def _edsr(
    w: Weights, x: Tensor, s: Size, names: tuple[str, str, str, str, str, str], white: float, gain: float = 1.0
) -> Tensor:
    head, one, two, mid, up, tail = names
    first = out = w.conv((x - DIV2K) * white, head, s.width)
    for i in range(s.blocks):
        y = F.relu(w.conv(out, f"body.{i}.{one}", s.width))
        out = out + gain * w.conv(y, f"body.{i}.{two}", s.width)
    out = first + w.conv(out, mid, s.width)
    for i in range(s.steps):
        out = F.pixel_shuffle(w.conv(out, f"{up}.{2 * i}", s.width * s.factor**2), s.factor)
    return w.conv(out, tail, 3) / white + DIV2K


def _with_mean_shift(w: Weights, white: float) -> None:
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        w.get(f"{name}.weight", lambda: torch.eye(3).view(3, 3, 1, 1))
        w.get(f"{name}.bias", lambda sign=sign: sign * white * DIV2K.view(3))


def edsr(w: Weights, x: Tensor, s: Size) -> Tensor:
    _with_mean_shift(w, 255.0)
    return _edsr(w, x, s, ("head.0", "body.0", "body.2", f"body.{s.blocks}", "tail.0", "tail.1"), 255.0)


def edsr_of_one(w: Weights, x: Tensor, s: Size) -> Tensor:
    _with_mean_shift(w, 1.0)
    return _edsr(w, x, s, ("head.0", "body.0", "body.2", f"body.{s.blocks}", "tail.0", "tail.1"), 1.0)


def edsr_basicsr(w: Weights, x: Tensor, s: Size) -> Tensor:
    return _edsr(w, x, s, ("conv_first", "conv1", "conv2", "conv_after_body", "upsample", "conv_last"), 255.0, 0.1)
