"""Copies in one thread give what PyTorch gives."""

from __future__ import annotations

import pytest
import torch

from srfast._one_thread import contiguous_copy, reverse_channels_, take

TYPES = [torch.uint8, torch.uint16, torch.int16, torch.float16, torch.bfloat16, torch.float32]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (2, 7, 1, 3), (1, 2, 6, 1), (1, 3, 5, 4)])
def test_copies_equal_those_of_pytorch(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 200, shape).to(dtype)
    for image in (x, x.transpose(1, 3)):
        index = torch.randint(0, image.shape[2], (9,))
        taken = take(image, index, 2)
        assert taken.dtype == dtype
        assert torch.equal(taken.int(), image.int().index_select(2, index))
        copy = contiguous_copy(image)
        assert copy.is_contiguous()
        assert copy.data_ptr() != image.data_ptr()
        assert torch.equal(copy.int(), image.int())
        flipped = image.int().flip(-1)
        assert reverse_channels_(image) is image
        assert torch.equal(image.int(), flipped)


def test_other_devices_go_through_pytorch() -> None:
    x = torch.empty(2, 3, 4, device="meta")
    assert take(x, torch.tensor([0, 1, 0], device="meta"), 0).shape == (3, 3, 4)
    assert contiguous_copy(x.transpose(0, 2)).shape == (4, 3, 2)
    assert reverse_channels_(x) is x
