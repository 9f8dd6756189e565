"""Starts a network near interpolation, from where a short training gets further; a training forward that costs less."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models import SRResNet, SRVGGNetCompact
from srfast.models.srresnet import ResidualBlock, UpsampleBlock
from srfast.models.subpixel import conv_before_shuffle


def start_from_interpolation(model: nn.Module) -> None:
    """Initialises the network near interpolation, from where a short training gets further.

    The first three channels carry the image through every layer (Dirac kernels; residual branches start at zero, as in
    Goyal et al. 2017, https://arxiv.org/abs/1706.02677), the others keep a damped default initialisation.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            with torch.no_grad():
                # Half of the default: the carried image has to be larger than the noise that the other channels add
                # to it.
                module.weight.mul_(0.5)
                if module.bias is not None:
                    module.bias.zero_()
    if isinstance(model, SRResNet):
        _carry_image(model)
    elif isinstance(model, SRVGGNetCompact):
        convs = [m for m in model.body if isinstance(m, nn.Conv2d)]
        with torch.no_grad():
            for conv in convs[:-1]:
                _add_dirac(conv)
            convs[-1].weight.mul_(0.1)


def _add_dirac(conv: nn.Conv2d) -> None:
    centre = conv.kernel_size[0] // 2
    for channel in range(min(conv.in_channels, conv.out_channels)):
        # A Dirac kernel passes its channel on as it is.
        conv.weight[channel, channel, centre, centre] += 1.0


@torch.no_grad()
def _carry_image(model: SRResNet) -> None:
    first = model.conv1[0]
    colours = model.conv3.out_channels
    assert isinstance(first, nn.Conv2d)
    first.weight[:colours].zero_()
    for c in range(colours):
        first.weight[c, c, 4, 4] = 1.0
    branches = [block.rcb for block in model.trunk if isinstance(block, ResidualBlock)]
    for norm in [branch[-1] for branch in [*branches, model.conv2]]:
        assert isinstance(norm, nn.BatchNorm2d)
        # A branch whose last normalisation multiplies by zero adds nothing: the residual block passes its input on.
        nn.init.zeros_(norm.weight)
    linear = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])  # the two phases of 2x linear interpolation
    for conv in [m for m in model.upsampling.modules() if isinstance(m, nn.Conv2d)]:
        conv.weight[: 4 * colours].zero_()
        for c in range(colours):
            for phase in range(4):
                # The shuffle takes channels 4c to 4c + 3 as the 2x2 pixels of channel c, row phase first.
                conv.weight[4 * c + phase, c] = torch.outer(linear[phase // 2], linear[phase % 2])
    model.conv3.weight.mul_(0.2)
    for c in range(colours):
        model.conv3.weight[c, c, 4, 4] += 1.0


def forward_train(model: nn.Module, x: Tensor) -> Tensor:
    """The network's own forward, but for SRResNet with the tail at the lower resolution: same function, less time."""
    if not isinstance(model, SRResNet):
        out: Tensor = model(x)
        return out
    shallow = model.conv1(x)
    out = model.conv2(model.trunk(shallow)) + shallow
    out = model.upsampling[:-1](out)
    last = model.upsampling[-1]
    assert isinstance(last, UpsampleBlock)
    out = last.upsample_block[2](last.upsample_block[0](out))  # one shared slope commutes with the shuffle
    # The 9x9 over the large image becomes a 5x5 over the small one with four times the outputs
    # (``models.subpixel``).
    out = F.conv2d(out, conv_before_shuffle(model.conv3.weight, 2), padding=2)
    bias = model.conv3.bias
    assert bias is not None
    return F.pixel_shuffle(out, 2) + bias[:, None, None]


class TrainingForward(nn.Module):
    """``forward_train`` as a module."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        return forward_train(self.generator, x)
