"""Without a GPU the Triton kernels run in Triton's interpreter, which must be chosen before Triton is imported."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from srfast.kernels import cuda
from tests.helpers.cuda import emulation as cuda_emulation
from tests.helpers.interpreter import exact_products

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_gpu: skipped without a GPU, failed if SRFAST_REQUIRE_GPU=1")


@pytest.fixture(autouse=True)
def _gpu_or_skip(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("needs_gpu") and not torch.cuda.is_available():
        if os.environ.get("SRFAST_REQUIRE_GPU") == "1":
            pytest.fail("SRFAST_REQUIRE_GPU=1, but PyTorch sees no GPU")
        pytest.skip("needs an NVIDIA GPU")


@pytest.fixture(scope="session")
def emulated_module() -> Any:
    """The CUDA kernels compiled for the host; kept between runs in ``build``."""
    return cuda_emulation.load(cuda_emulation.build(cuda_emulation.REPOSITORY / "build" / "emulated"))


@pytest.fixture
def emulated_cuda(emulated_module: Any) -> Iterator[None]:
    """``srfast.kernels.cuda`` runs the emulated kernels."""
    before = cuda.use_module(emulated_module)
    yield
    cuda.use_module(before)


@pytest.fixture(autouse=True, scope="session")
def _exact_products() -> Iterator[None]:
    """Equal bits do not hang on the CPU that interprets."""
    with exact_products():
        yield
