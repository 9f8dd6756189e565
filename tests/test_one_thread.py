"""Copies in one thread give what PyTorch gives."""

from __future__ import annotations

import pytest
import torch

from srfast._one_thread import contiguous_copy, converted, take

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


def test_other_devices_go_through_pytorch() -> None:
    x = torch.empty(2, 3, 4, device="meta")
    assert take(x, torch.tensor([0, 1, 0], device="meta"), 0).shape == (3, 3, 4)
    assert contiguous_copy(x.transpose(0, 2)).shape == (4, 3, 2)


def test_bfloat16_is_rounded_as_by_pytorch() -> None:
    bits = torch.randint(-(2**31), 2**31, (40, 50), generator=torch.Generator().manual_seed(0)).int()
    special = torch.tensor(
        [0x7F800000, -0x800000, 0x7F7FFFFF, 0x7FFFFFFF, -1, 0x7F800001, 0x3F808000, 0x3F818000, 0, 1]
    )
    x = torch.cat([bits.flatten(), special.int()]).view(torch.float32)
    for image in (x, x[:2000].reshape(40, 50).T):
        assert _rounded_alike(image)
    back = x.bfloat16()
    assert torch.equal(converted(back, torch.float32).nan_to_num(7.0), back.float().nan_to_num(7.0))
    assert converted(x, torch.float32) is x
    assert torch.equal(converted(torch.arange(5), torch.float32), torch.arange(5.0))


def _rounded_alike(x: torch.Tensor) -> bool:
    ours, theirs = converted(x, torch.bfloat16), x.bfloat16()
    return torch.equal(ours.isnan(), theirs.isnan()) and torch.equal(ours.nan_to_num(7.0), theirs.nan_to_num(7.0))
