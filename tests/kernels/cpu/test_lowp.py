"""The low-precision kernels (int8 by AVX512-VNNI and AMX, bfloat16 by AMX) against sums of the rounded values in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srfast.backends.cpu import CpuBackend
from srfast.capture import capture
from srfast.kernels import cpu
from srfast.kernels.reference import conv_reference
from srfast.models import SRResNet
from srfast.plan.passes import optimise

SETS = cpu.lowp_sets()
pytestmark = pytest.mark.skipif(
    not SETS, reason="no low-precision kernels: they need a CPU with AVX-512 and the compiled module"
)
INT8 = {"vnni", "amx_int8", "amx_int8_emulated"}
SCALE, ZERO = 0.03, 117


def _rounded(x: Tensor, weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """What the kernel multiplies, as float64."""
    if kind not in INT8:
        return x.bfloat16().double(), weight.bfloat16().double()
    scale = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    # One rounding to float32, as a fused multiply-add has it, before the one to an integer.
    steps = (x.double() * torch.tensor(1 / SCALE).double() + ZERO).float().round()
    quantised = steps.clamp(0, 255) - ZERO
    return quantised.double() * SCALE, (weight / scale).round().double() * scale.double()


def _run(kind: str, parts: list[Tensor], weight: Tensor, bias: Tensor, threads: int, **options) -> tuple[Tensor, bool]:
    network = cpu.Network(kind)
    height, width, _ = parts[0].shape
    r = options.get("shuffle", 1)
    sources = [network.activation(part.shape[2], input=True) for part in parts]
    target = network.activation(weight.shape[0] // r**2, output=True)
    network.conv(sources, target, weight, bias, lowp=cpu.LowPrecision(SCALE, ZERO), **options)
    steps = [(-1 - i, 0, height) for i in range(len(parts))] + [(0, 0, height)]
    network.layout(height, width, scales=[1] * len(parts) + [r], steps=steps)
    out = torch.full((height * r, width * r, weight.shape[0] // r**2), float("nan"))
    finite = network.run(parts, [out], threads)
    return out, finite


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 13), (5, 131)])
@pytest.mark.parametrize(
    ("parts", "outputs", "kernel", "options"),
    [
        ((64,), 64, 3, {}),
        ((32,), 20, 3, {"act": "prelu", "slope": torch.tensor([0.25])}),
        ((64,), 64, 3, {"act": "silu"}),
        ((32,), 12, 3, {"act": "gelu", "shuffle": 2}),
        ((64, 32, 32), 32, 3, {"gain": 0.2}),
        ((32,), 256, 3, {"shuffle": 2}),
        ((32,), 12, 5, {"shuffle": 2, "clamp": (-0.5, 0.5)}),
        ((96,), 16, 1, {}),
    ],
)
def test_sums(
    kind: str, size: tuple[int, int], parts: tuple[int, ...], outputs: int, kernel: int, options: dict
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*size, sum(parts), generator=generator)
    weight = torch.randn(outputs, sum(parts), kernel, kernel, generator=generator) / (sum(parts) * kernel**2) ** 0.5
    bias = torch.randn(outputs, generator=generator)
    y, finite = _run(kind, [part.contiguous() for part in x.split(parts, 2)], weight, bias, 2, **options)
    image, rounded = _rounded(x, weight, kind)
    reference = {**options, "slope": options["slope"].double()} if "slope" in options else options
    expected = conv_reference(image.permute(2, 0, 1)[None], rounded, bias.double(), **reference)[0].permute(1, 2, 0)
    assert finite
    # Sums of float32 against float64; the wrong rounding of one value of the input would be 1e-3.
    assert (y - expected).abs().max() < 3e-5
    one, _ = _run(kind, [part.contiguous() for part in x.split(parts, 2)], weight, bias, 1, **options)
    assert torch.equal(one, y)


@pytest.mark.parametrize("channels", [32, 64, 96])
def test_8_bit_tiles_give_the_bits_of_vnni(channels: int) -> None:
    """A row of taps on 32 channels ends within a tile of 64 bytes."""
    if "vnni" not in SETS:
        pytest.skip("this CPU has no AVX512-VNNI")
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(9, 71, channels, generator=generator)
    weight, bias = torch.randn(80, channels, 3, 3, generator=generator), torch.randn(80, generator=generator)
    first, *others = (_run(kind, [x], weight, bias, 2)[0] for kind in SETS if kind in INT8)
    assert others and all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("kind", [kind for kind in SETS if kind not in INT8])
def test_a_network_in_bfloat16(kind: str) -> None:
    torch.manual_seed(0)
    model = SRResNet(2, channels=32, num_blocks=2).eval()
    plan = optimise(capture(model))
    x = torch.rand(1, 3, 12, 17)
    exact = CpuBackend().compile(plan, torch.device("cpu"), torch.float32)(x)
    y = CpuBackend(path=kind).compile(plan, torch.device("cpu"), torch.bfloat16)(x.bfloat16())
    eager = model.bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert 0 < (y.float() - exact).square().mean() < (eager.float() - exact).square().mean() * 4
    with pytest.raises(ValueError, match="no 'avx9'"):
        CpuBackend(path="avx9")


@pytest.mark.parametrize("kind", SETS)
def test_values_without_a_lowp_form_are_reported(kind: str) -> None:
    weight, bias = torch.rand(16, 32, 3, 3), torch.zeros(16)
    for value in (float("nan"), float("inf"), float("-inf")):
        x = torch.rand(5, 60, 32)
        assert _run(kind, [x], weight, bias, 2)[1]
        x[4, 59, 31] = value
        assert not _run(kind, [x], weight, bias, 2)[1]


def test_convolutions_that_do_not_fit_are_refused() -> None:
    network = cpu.Network(SETS[0])
    source, target = network.activation(24, input=True), network.activation(16, output=True)
    with pytest.raises(ValueError, match=r"^inputs: only direct"):
        network.conv(source, target, torch.rand(16, 24, 3, 3), torch.zeros(16), lowp=cpu.LowPrecision())
    plain = cpu.Network(cpu.instruction_sets()[0])
    source, target = plain.activation(32, input=True), plain.activation(16, output=True)
    with pytest.raises(ValueError, match="no low-precision convolutions"):
        plain.conv(source, target, torch.rand(16, 32, 3, 3), torch.zeros(16), lowp=cpu.LowPrecision())
