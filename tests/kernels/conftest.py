"""Without a GPU the Triton kernels run in Triton's interpreter, which must be chosen before Triton is imported."""

import os
from collections.abc import Iterator

import pytest
import torch

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


@pytest.fixture(autouse=True, scope="session")
def _exact_products() -> Iterator[None]:
    """Equal bits do not hang on the CPU that interprets."""
    with exact_products():
        yield
