"""Convolutions of stride 2 on images of few channels, which the low-precision kernels do not read as squares."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from srfast.backends.cpu import CpuBackend
from srfast.capture import capture
from srfast.kernels import cpu
from srfast.plan.passes import optimise

SETS = [name for name in cpu.lowp_sets() if name in ("amx", "avx512_bf16", "amx_emulated")]
pytestmark = pytest.mark.skipif(not SETS, reason="no kernels for bfloat16: they need AVX-512 and the compiled module")


@pytest.mark.parametrize("path", SETS)
@pytest.mark.parametrize(("channels", "stride"), [(8, 2), (16, 2), (32, 2), (8, 4), (2, 12)])
def test_few_channels_in_bfloat16(path: str, channels: int, stride: int) -> None:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, channels, 3, padding=1),
        nn.Conv2d(channels, 64, stride, stride),
        nn.LeakyReLU(0.1),
        nn.ConvTranspose2d(64, 16, stride, stride),
        nn.Conv2d(16, 3, 3, padding=1),
    ]
    plan = optimise(capture(nn.Sequential(*layers).eval()))
    x = torch.rand(1, 3, 3 * stride, 5 * stride)
    exact = CpuBackend().compile(plan, torch.device("cpu"), torch.float32)(x)
    run = CpuBackend(path=path).compile(plan, torch.device("cpu"), torch.bfloat16)
    assert (run(x) - exact).abs().max() < 0.02
