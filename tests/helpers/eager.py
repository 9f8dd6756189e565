"""Captured modules beside eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from srfast.backends.cpu import CpuBackend
from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.plan import Plan
from srfast.plan.passes import optimise


class Forward(nn.Module):
    """A module of given parts and a given forward, which takes the module and the image."""

    def __init__(
        self, forward: Callable[[nn.Module, Tensor], Tensor], **parts: Callable[[Tensor], Tensor] | nn.Parameter
    ) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def conv(channels: int = 3, out: int = 8, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2)


def run(plan: Plan, x: Tensor) -> Tensor:
    return ReferenceBackend().compile(plan, x.device, x.dtype)(x)


def assert_matches_eager(module: nn.Module, in_channels: int = 3) -> None:
    """On sides that are odd in units of the plan's alignment: in float64 before and after the passes, and in float32."""
    module = module.double().eval()
    plan = capture(module)
    assert plan.in_channels == in_channels
    for seed, size in enumerate(((7, 5), (1, 3))):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(2, in_channels, *(plan.alignment * n for n in size), dtype=torch.float64, generator=generator)
        with torch.no_grad():
            expected = module(x.clone())
        torch.testing.assert_close(run(plan, x), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(run(optimise(plan), x), expected, rtol=1e-6, atol=2e-5)  # weights rounded to float32
        fast = CpuBackend().compile(optimise(plan), x.device, torch.float32)(x.float())
        torch.testing.assert_close(fast.double(), expected, rtol=1e-5, atol=3e-5)
