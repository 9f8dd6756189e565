"""RTMoSR (https://github.com/rewaifu/RTMoSR), the real-time MoSR, ready to run.

In training each of its 3x3 convolutions is three beside each other, and each depthwise one four; ``folded`` and
``folded_depthwise`` make them one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models.bordered import Bordered
from srfast.models.norms import RootMeanSquare2d
from srfast.models.span import folded as folded_three


def folded(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Weight [O, C, 3, 3] and bias of a weighted sum: 1x1 and 3x3 in a row, 3x3, and those of ``span.folded``.

    The image of the first's 1x1 is padded with its bias, so that this counts at the border as everywhere. In float64.
    """
    k0, b0, k1, b1 = (state[f"{name}.conv1.{what}"].double() for what in ("k0", "b0", "k1", "b1"))
    first = torch.einsum("omhw,mc->ochw", k1, k0[:, :, 0, 0]), k1.sum((2, 3)) @ b0 + b1
    plain = state[f"{name}.conv2.weight"].double(), state[f"{name}.conv2.bias"].double()
    three = tuple(value.double() for value in folded_three(state, f"{name}.conv3"))
    share = state[f"{name}.alpha"].double()
    weight, bias = (share[0] * first[i] + share[1] * plain[i] + share[2] * three[i] for i in range(2))
    return weight.float(), bias.float()


def folded_depthwise(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Weight [C, 1, 5, 5] and bias of a weighted sum of the image and its depthwise 1x1, 3x3 and 5x5 convolutions."""
    share = [state[f"{name}.alpha{i}"].double().reshape(-1) for i in range(1, 5)]
    one, three, five = (state[f"{name}.conv{k}x{k}.weight"].double() for k in (1, 3, 5))
    biases = [state[f"{name}.conv{k}x{k}.bias"].double() for k in (1, 3, 5)]
    same = F.pad(torch.ones_like(one), (2, 2, 2, 2))
    parts = (same, F.pad(one, (2, 2, 2, 2)), F.pad(three, (1, 1, 1, 1)), five)
    weight = sum(s.view(-1, 1, 1, 1) * part for s, part in zip(share, parts, strict=True))
    bias = sum(s * b for s, b in zip(share[1:], biases, strict=True))
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    return weight.float(), bias.float()


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class _Mixer(nn.Module):
    """At half the size: unshuffled pixels and largest ones, a depthwise convolution, a gate, and back."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.pool = _conv(channels, 4 * channels)
        self.shift = nn.Conv2d(4 * channels, 4 * channels, 5, padding=2, groups=4 * channels)
        self.gate: nn.Module | None = None
        if middle:
            inner, outer = nn.Conv2d(4 * channels, middle, 1), nn.Conv2d(middle, 4 * channels, 1)
            self.gate = nn.Sequential(inner, nn.ReLU(), outer, nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shift(F.pixel_unshuffle(x, 2) + self.pool(F.max_pool2d(x, 2)))
        if self.gate is not None:
            y = y * self.gate(y.mean((2, 3), keepdim=True))
        return F.pixel_shuffle(y, 2)


class _Block(nn.Module):
    def __init__(self, channels: int, hidden: int, middle: int, kernel: int) -> None:
        super().__init__()
        self.hidden, self.read = hidden, 2 * hidden - channels
        self.norm = RootMeanSquare2d(channels)
        self.fc1 = _conv(channels, 2 * hidden)
        self.mixer = _Mixer(channels, middle)
        self.fc2 = _conv(hidden, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        # Channels of the result in a row: the gate's, those that stay as they are, those that the mixer reads.
        y = self.fc1(self.norm(x))
        values = self.mixer(y[:, self.read : 2 * self.hidden])
        if self.read > self.hidden:
            values = torch.cat([y[:, self.hidden : self.read], values], 1)
        return F.mish(self.fc2(F.mish(y[:, : self.hidden]) * values)) + x


class RTMoSR(Bordered):
    """Gated blocks between an unshuffle and a shuffle, beside the image's repeated pixels; images in 0..1, RGB.

    Args:
        num_in_ch: colour planes in and out.
        upscale: pixel-shuffle factor at the end.
        unshuffle: factor at the beginning, which divides ``upscale``; images are continued to multiples of twice it.
        num_feat: width.
        num_blocks: gated blocks.
        hidden: channels inside of a block.
        middle: channels inside of a gate; 0 for none.
        kernel: of the convolution at the end of a block.

    Raises:
        ValueError: the numbers make no such network.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        upscale: int = 4,
        unshuffle: int = 1,
        num_feat: int = 32,
        num_blocks: int = 2,
        hidden: int = 64,
        middle: int = 64,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        if upscale % unshuffle or hidden < num_feat or kernel not in (1, 3):
            raise ValueError(
                f"upscale {upscale}, unshuffle {unshuffle}, hidden {hidden} and kernel {kernel} make no RTMoSR"
            )
        self.scale, self.multiple, self.factor = upscale // unshuffle, 2 * unshuffle, unshuffle
        self.to_feat = _conv(num_in_ch * unshuffle**2, num_feat)
        self.blocks = nn.Sequential(*(_Block(num_feat, hidden, middle, kernel) for _ in range(num_blocks)))
        self.to_img = nn.Sequential(_conv(num_feat, num_in_ch * upscale**2), nn.PixelShuffle(upscale))

    def body(self, x: Tensor) -> Tensor:
        """[N, num_in_ch, H, W] in 0..1, sides multiples of ``multiple``, -> [N, num_in_ch, scale * H, scale * W]."""
        y = F.pixel_unshuffle(x, self.factor) if self.factor > 1 else x
        result: Tensor = self.to_img(self.blocks(self.to_feat(y)))
        return result + F.interpolate(x, scale_factor=self.scale, mode="nearest")
