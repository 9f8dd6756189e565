"""Training blocks that fold into plain convolutions: more parameters while it trains, the same network afterwards.

Every 3x3 convolution W of a Compact network trains as W + C * E3 * A + P: A widens the channels by 1x1, E3 is 3x3, C narrows by
1x1, P is a 1x1 at the centre (structural re-parameterisation; the widened branch as in Zhang et al. 2021,
https://doi.org/10.1145/3474085.3475291). All of it is linear, so the sum is one 3x3 convolution: it is formed from the factors in
every iteration, which costs a product of small matrices, and written out once at the end.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Branches(nn.Module):
    """Adds branches to the weight of a convolution; they begin at zero, so that the network begins as it was.

    Args:
        weight: [out, in, k, k] with odd k.
        expansion: width of the widened branch as a multiple of the output channels.

    Raises:
        ValueError: an even kernel has no centre.
    """

    def __init__(self, weight: Tensor, expansion: int) -> None:
        super().__init__()
        out_channels, in_channels, height, width = weight.shape
        if not height % 2 or not width % 2:
            raise ValueError(f"branches are added to odd kernels, not {height}x{width}")
        wide = expansion * out_channels
        self.centre = (height // 2, width // 2)
        self.widen = nn.Parameter(torch.empty(wide, in_channels))
        self.middle = nn.Parameter(torch.empty(wide, wide, height, width))
        # One factor at zero makes the branch zero, and the others random keep its gradient from being zero as well.
        self.narrow = nn.Parameter(torch.zeros(out_channels, wide))
        self.point = nn.Parameter(torch.zeros(out_channels, in_channels))
        nn.init.orthogonal_(self.widen)
        nn.init.kaiming_normal_(self.middle, nonlinearity="linear")

    def forward(self, weight: Tensor) -> Tensor:
        """[out, in, k, k], with the branches in it."""
        # The product of the factors, not three convolutions: its cost does not depend on the size of the image.
        branch = torch.einsum("ow,wvyx,vi->oiyx", self.narrow, self.middle, self.widen)
        y, x = self.centre
        point = torch.zeros_like(weight)
        point[:, :, y, x] = self.point
        return weight + branch + point


def unfold(model: nn.Module, expansion: int) -> None:
    """Gives every 3x3 convolution of a network its branches, in place; what it computes stays the same.

    Examples:
        >>> from srfast.models import SRVGGNetCompact
        >>> model, x = SRVGGNetCompact(num_feat=8, num_conv=2).eval(), torch.rand(1, 3, 8, 8)
        >>> with torch.no_grad():
        ...     before = model(x)
        ...     unfold(model, 2)
        ...     bool(torch.allclose(model(x), before, atol=1e-6))
        True
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    for convolution in convolutions:
        parametrize.register_parametrization(convolution, "weight", Branches(convolution.weight, expansion))


def folded(model: nn.Module) -> nn.Module:
    """Returns the network without branches: itself if it has none, else a copy with the sums as its weights."""
    if not any(parametrize.is_parametrized(m) for m in model.modules()):
        return model
    # A copy: the training goes on with the branches.
    plain = copy.deepcopy(model)
    for parent in list(plain.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and parametrize.is_parametrized(child, "weight"):
                setattr(parent, name, _plain(child))
    return plain


@torch.no_grad()
def _plain(convolution: nn.Conv2d) -> nn.Conv2d:
    """A new one with the sum as its weight. PyTorch's ``remove_parametrizations`` would change the class that the convolution
    shares with its copies."""
    c, side = convolution, convolution.kernel_size[0]
    made = nn.Conv2d(c.in_channels, c.out_channels, side, c.stride[0], int(c.padding[0]), bias=c.bias is not None)
    made = made.to(c.weight).train(c.training)
    made.weight.copy_(c.weight)
    if c.bias is not None and made.bias is not None:
        made.bias.copy_(c.bias)
    return made
