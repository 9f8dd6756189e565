"""The residual family: SRResNet and SRGAN in their public variants, MSRResNet and EDSR, as one network with options.

All of them are a head convolution, residual blocks, an optional convolution with a skip over the blocks, upsampling steps and
a tail; they differ in normalisation, activations, kernel sizes and value ranges. ``srfast.checkpoint`` maps each public
state_dict layout to the keys of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORMS = ("none", "batch", "instance", "instance_affine")
ACTS = ("none", "prelu", "prelu_channels", "relu", "silu", "tanh", "leaky0.1", "leaky0.2")


def activation(kind: str, channels: int) -> nn.Module:
    """One of ``ACTS``; ``prelu_channels`` has a slope for each channel."""
    if kind.startswith("prelu"):
        return nn.PReLU(channels if kind == "prelu_channels" else 1)
    if kind in ("leaky0.1", "leaky0.2"):
        return nn.LeakyReLU(float(kind.removeprefix("leaky")))
    simple: dict[str, type[nn.Module]] = {"none": nn.Identity, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}
    if kind not in simple:
        raise ValueError(f"an activation is one of {', '.join(ACTS)}, not {kind!r}")
    return simple[kind]()


def normalisation(kind: str, channels: int) -> nn.Module:
    """One of ``NORMS``."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind in ("instance", "instance_affine"):
        return nn.InstanceNorm2d(channels, affine=kind == "instance_affine")
    if kind != "none":
        raise ValueError(f"a normalisation is one of {', '.join(NORMS)}, not {kind!r}")
    return nn.Identity()


class SeparableConv(nn.Module):
    """A convolution of each channel, then a mix of the channels."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


def _conv(in_channels: int, out_channels: int, kernel: int, separable: bool) -> nn.Module:
    if separable:
        return SeparableConv(in_channels, out_channels, kernel)
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)


class Block(nn.Module):
    """conv-norm-act-conv-norm, times ``res_scale``, plus the identity."""

    def __init__(self, channels: int, kernel: int, norm: str, act: str, res_scale: float, separable: bool) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels, kernel, separable)
        self.norm1 = normalisation(norm, channels)
        self.act = activation(act, channels)
        self.conv2 = _conv(channels, channels, kernel, separable)
        self.norm2 = normalisation(norm, channels)
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return x + (out if self.res_scale == 1 else out * self.res_scale)


class Upsample(nn.Module):
    """Enlarges: conv, pixel shuffle, norm, act; or (``nearest``) repeats pixels first and convolves after."""

    def __init__(
        self, channels: int, factor: int, kernel: int, norm: str, act: str, nearest: bool, separable: bool
    ) -> None:
        super().__init__()
        self.nearest, self.factor = nearest, factor
        self.conv = _conv(channels, channels if nearest else channels * factor**2, kernel, separable)
        self.norm = normalisation(norm, channels)
        self.act = activation(act, channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.nearest:
            out = self.conv(F.interpolate(x, scale_factor=self.factor, mode="nearest"))
        else:
            out = F.pixel_shuffle(self.conv(x), self.factor)
        result: Tensor = self.act(self.norm(out))
        return result


class ResidualSR(nn.Module):
    """A residual super-resolution network; images in 0..1, RGB, on both sides, whatever the network was trained on.

    Args:
        up_factors: one upsampling step each; their product is the scale.
        in_channels, out_channels: colour planes.
        channels: width.
        num_blocks: residual blocks.
        head_kernel, kernel, tail_kernel: sides of the first, the inner and the last convolution.
        head_act: after the first convolution.
        norm, act: inside the blocks; ``norm`` also after the middle convolution unless that has an activation.
        res_scale: gain of each block's branch.
        middle: "none" for no convolution and no skip over the blocks, "plain" for a convolution, "norm" for one with
            ``norm``, or an activation for one with that.
        nearest: upsample by repeated pixels and a convolution, not by pixel shuffle.
        up_norm, up_act: of each upsampling step.
        last_act: if given, a further 3x3 convolution with this activation goes before the last one.
        base: enlargement of the input that is added to the result: "none" or "bilinear".
        head: "none", "tanh" or "clamp" (to 0..1, after ``output_scale`` and ``output_shift``).
        separable: every convolution is a separable one.
        input_mean, input_std: the network sees (image - mean) / std, by channel.
        output_scale, output_shift: the image is the network's result * scale + shift, by channel.

    Raises:
        ValueError: an option is not one of those listed.
    """

    def __init__(
        self,
        up_factors: Sequence[int] = (2, 2),
        in_channels: int = 3,
        out_channels: int = 3,
        channels: int = 64,
        num_blocks: int = 16,
        head_kernel: int = 9,
        kernel: int = 3,
        tail_kernel: int = 9,
        head_act: str = "prelu",
        norm: str = "batch",
        act: str = "prelu",
        res_scale: float = 1.0,
        middle: str = "norm",
        nearest: bool = False,
        up_norm: str = "none",
        up_act: str = "prelu",
        last_act: str = "",
        base: str = "none",
        head: str = "none",
        separable: bool = False,
        input_mean: Sequence[float] = (0.0,),
        input_std: Sequence[float] = (1.0,),
        output_scale: Sequence[float] = (1.0,),
        output_shift: Sequence[float] = (0.0,),
    ) -> None:
        # Taken before anything else is a local variable.
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.arguments = arguments  # what a file of this network has to tell beside the weights
        for what, value, allowed in (("base", base, ("none", "bilinear")), ("head", head, ("none", "tanh", "clamp"))):
            if value not in allowed:
                raise ValueError(f"{what} is one of {', '.join(allowed)}, not {value!r}")
        self.scale = 1
        # The enlargement is the product of the steps.
        for factor in up_factors:
            self.scale *= factor
        self.base, self.final = base, head
        self.input_range = _Range(
            [1 / s for s in input_std], [-m / s for m, s in zip(input_mean, input_std, strict=True)]
        )
        self.output_range = _Range(output_scale, output_shift)
        self.head = _conv(in_channels, channels, head_kernel, separable)
        self.head_act = activation(head_act, channels)
        self.blocks = nn.Sequential(
            *(Block(channels, kernel, norm, act, res_scale, separable) for _ in range(num_blocks))
        )
        self.middle = middle
        if middle != "none":
            self.mid = _conv(channels, channels, kernel, separable)
            self.mid_norm = normalisation(norm if middle == "norm" else "none", channels)
            self.mid_act = activation("none" if middle in ("plain", "norm") else middle, channels)
        self.up = nn.Sequential(
            *(Upsample(channels, f, kernel, up_norm, up_act, nearest, separable) for f in up_factors)
        )
        self.last = _conv(channels, channels, kernel, separable) if last_act else nn.Identity()
        self.last_act = activation(last_act or "none", channels)
        self.tail = _conv(channels, out_channels, tail_kernel, separable)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] in 0..1 -> [N, out_channels, scale*H, scale*W], clamped in eval mode if ``head`` says so."""
        x = self.input_range(x)
        shallow = self.head_act(self.head(x))
        out = self.blocks(shallow)
        if self.middle != "none":
            out = self.mid_act(self.mid_norm(self.mid(out))) + shallow
        out = self.tail(self.last_act(self.last(self.up(out))))
        if self.base == "bilinear":
            out = out + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        if self.final == "tanh":
            out = torch.tanh(out)
        out = self.output_range(out)
        # Training needs gradients outside of 0..1 too; a clamp has none.
        return torch.clamp(out, 0.0, 1.0) if self.final == "clamp" and not self.training else out


class _Range(nn.Module):
    """scale * x + shift by channel, or nothing where that changes nothing."""

    def __init__(self, scale: Sequence[float], shift: Sequence[float]) -> None:
        super().__init__()
        self.plain = set(scale) == {1.0} and set(shift) == {0.0}
        # Not part of the state_dict: they are constants of the architecture.
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    scale: Tensor
    shift: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x if self.plain else x * self.scale + self.shift


def msrresnet(scale: int = 4, channels: int = 64, num_blocks: int = 16, up_act: str = "leaky0.1") -> ResidualSR:
    """MSRResNet of BasicSR (https://github.com/XPixelGroup/BasicSR): no normalisation, the bilinear enlargement added."""
    return ResidualSR(
        up_factors=upsampling(scale), channels=channels, num_blocks=num_blocks, **MSRRESNET, up_act=up_act
    )


def edsr(scale: int = 4, channels: int = 64, num_blocks: int = 16, res_scale: float = 1.0) -> ResidualSR:
    """EDSR (Lim et al. 2017, https://arxiv.org/abs/1707.02921); the large one has 256 channels, 32 blocks, res_scale 0.1."""
    return ResidualSR(
        up_factors=upsampling(scale), channels=channels, num_blocks=num_blocks, res_scale=res_scale, **EDSR
    )


def upsampling(scale: int) -> tuple[int, ...]:
    """The usual steps: doublings, or one step of 3.

    Raises:
        ValueError: another scale.
    """
    if scale == 3:
        return (3,)
    if scale < 1 or scale & (scale - 1):
        raise ValueError(f"a scale is 1, 2, 3, 4 or 8, not {scale}")
    return (2,) * (scale.bit_length() - 1)


MSRRESNET: dict[str, Any] = {
    "head_kernel": 3,
    "tail_kernel": 3,
    "head_act": "leaky0.1",
    "norm": "none",
    "act": "relu",
    "middle": "none",
    "last_act": "leaky0.1",
    "base": "bilinear",
}
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
EDSR: dict[str, Any] = {
    "head_kernel": 3,
    "tail_kernel": 3,
    "head_act": "none",
    "norm": "none",
    "act": "relu",
    "middle": "plain",
    "up_act": "none",
    # It works on 0..255 less the mean colour of DIV2K.
    "input_mean": DIV2K_MEAN,
    "input_std": (1 / 255,) * 3,
    "output_scale": (1 / 255,) * 3,
    "output_shift": DIV2K_MEAN,
}
