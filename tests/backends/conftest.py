"""Without a GPU the Triton kernels run in Triton's interpreter, which must be chosen before Triton is imported."""

import os
from collections.abc import Iterator

import pytest
import torch

from tests.helpers.interpreter import exact_products

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True, scope="session")
def _exact_products() -> Iterator[None]:
    """Equal bits do not hang on the CPU that interprets."""
    with exact_products():
        yield
