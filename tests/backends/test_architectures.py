"""Every newer architecture on every backend, small, against plain torch in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from srfast.backends import Backend
from srfast.backends.cpu import CpuBackend
from srfast.backends.cuda import CudaBackend
from srfast.backends.reference import ReferenceBackend
from srfast.backends.triton import TritonBackend
from srfast.kernels import cpu
from srfast.models import RCAN, SPAN, SPANF3, ArtCNN, RealCUGAN, RealPLKSR
from srfast.models.imdn import IMDN
from srfast.models.mosr import MoSR
from srfast.models.rtmosr import RTMoSR
from srfast.plan import Plan
from srfast.planning import plan_network
from tests.helpers.networks.small import randomise

CPU = torch.device("cpu")
SLOW = ("cugan",)  # a minute and a half in Triton's interpreter
# Of the image that the plan gets, with the border of networks that have one.
SMALL, BORDERED = (8, 12), (48, 52)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "span": (lambda: SPAN(num_feat=16, num_blocks=2, upscale=2), SMALL),
    "spanf3": (lambda: SPANF3(num_feat=16, num_blocks=2, upscale=2), SMALL),
    "spanf3_unshuffled": (  # 12 planes
        lambda: SPANF3(num_feat=16, num_blocks=2, upscale=2, unshuffle=2),
        SMALL,
    ),
    "artcnn": (lambda: ArtCNN(upscale=2, num_feat=16, num_blocks=2), SMALL),
    "rcan": (lambda: RCAN(upscale=2, num_groups=1, num_blocks=2, num_feat=16, middle=4), SMALL),
    "mosr": (lambda: MoSR(upscale=2, num_feat=16, num_blocks=1, hidden=24, convolved=16), SMALL),
    "imdn": (lambda: IMDN(num_feat=16, num_blocks=2, kept=4, upscale=2), (7, 11)),
    "rtmosr": (lambda: RTMoSR(upscale=2, num_feat=16, num_blocks=1, hidden=24, middle=8), (6, 10)),
    "rtmosr_unshuffled": (
        lambda: RTMoSR(upscale=4, unshuffle=2, num_feat=16, num_blocks=1, hidden=16, middle=0, kernel=1),
        (8, 12),
    ),
    "plksr": (lambda: RealPLKSR(upscale=2, num_feat=16, num_blocks=1, partial=8, kernel=9), SMALL),
    "plksr_pixels": (lambda: RealPLKSR(upscale=2, num_feat=16, num_blocks=1, partial=8, kernel=9, groups=0), SMALL),
    "plksr_large": (lambda: RealPLKSR(upscale=2, num_feat=32, num_blocks=1, partial=16, groups=0), SMALL),
    "cugan": (lambda: RealCUGAN(upscale=2), BORDERED),
}


def _made(name: str) -> tuple[Plan, Tensor]:
    build, size = NETWORKS[name]
    plan = plan_network(randomise(build(), seed=2), in_channels=3)
    return plan, torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(3))


def _error(backend: Backend, plan: Plan, x: Tensor, dtype: torch.dtype, expected: Tensor) -> float:
    reasons = backend.not_supported_reasons(plan, CPU, dtype)
    assert reasons == []
    return float((backend.compile(plan, CPU, dtype)(x.to(dtype)).double() - expected).abs().max())


def _expected(plan: Plan, x: Tensor) -> Tensor:
    return ReferenceBackend().compile(plan, CPU, torch.float64)(x.double())


@pytest.mark.parametrize("path", cpu.instruction_sets())
@pytest.mark.parametrize("name", NETWORKS)
def test_cpu(name: str, path: str) -> None:
    """In float32: a ten-thousandth of the largest value, of which transforms and the order of sums take most."""
    plan, x = _made(name)
    expected = _expected(plan, x)
    assert _error(CpuBackend(path=path), plan, x, torch.float32, expected) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETWORKS]
)
def test_triton(name: str) -> None:
    """In float16, in the interpreter: at most twice the error of plain torch."""
    plan, x = _made(name)
    expected = _expected(plan, x)
    allowed = _error(ReferenceBackend(), plan, x, torch.float16, expected)
    assert _error(TritonBackend(interpret=True), plan, x, torch.float16, expected) <= 2 * allowed + 1e-4


# Its 17x17 kernels are more than the CUDA kernels have: a device with CUDA runs them in Triton.
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in (*SLOW, "plksr_large")])
@pytest.mark.usefixtures("emulated_cuda")
def test_cuda(name: str) -> None:
    """The same for the CUDA kernels, emulated."""
    plan, x = _made(name)
    expected = _expected(plan, x)
    allowed = _error(ReferenceBackend(), plan, x, torch.float16, expected)
    assert _error(CudaBackend(graphs=False), plan, x, torch.float16, expected) <= 2 * allowed + 1e-4
