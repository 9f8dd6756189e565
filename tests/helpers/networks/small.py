"""Small networks of every kind, with weights that show a wrong fold."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from srfast.models import SRResNet, SRVGGNetCompact, edsr, msrresnet


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Fills running statistics, norms, slopes and biases with values that would show a wrong fold; eval mode."""
    torch.manual_seed(seed)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean, std=0.2)
            nn.init.uniform_(m.running_var, 0.5, 2.0)
            nn.init.normal_(m.weight, 1.0, 0.2)
            nn.init.normal_(m.bias, std=0.2)
        elif isinstance(m, nn.PReLU):
            nn.init.uniform_(m.weight, -0.2, 0.6)
        elif isinstance(m, nn.Conv2d) and m.bias is not None:
            nn.init.normal_(m.bias, std=0.1)
    return module.eval()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "srresnet_x4": lambda: SRResNet(4, channels=16, num_blocks=2),
    "srresnet_x2": lambda: SRResNet(2, channels=8, num_blocks=1),
    "srresnet_plain": lambda: SRResNet(2, channels=4, num_blocks=0),
    "compact_x4": lambda: SRVGGNetCompact(num_feat=8, num_conv=2, upscale=4),
    "compact_x3_relu": lambda: SRVGGNetCompact(num_feat=6, num_conv=1, upscale=3, act_type="relu"),
    "compact_x2_leaky": lambda: SRVGGNetCompact(num_feat=8, num_conv=0, upscale=2, act_type="leakyrelu"),
    "msrresnet_x3": lambda: msrresnet(3, channels=8, num_blocks=1),
    "edsr_x2": lambda: edsr(2, channels=8, num_blocks=1, res_scale=0.1),
}
