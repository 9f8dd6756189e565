"""Copies of tensors on the CPU that leave PyTorch's threads asleep.

PyTorch copies and converts large tensors with several threads, which afterwards wait for more work without giving up their
cores, for some milliseconds. The compiled kernels would share the cores with them: waifu2x's upconv_7 at 240x136 on two cores
takes 57 ms, and 65 after such a copy. So what comes right before or after a network goes through NumPy, which takes one thread.
Tensors on other devices, and those that NumPy has not, go through PyTorch. Nothing here keeps gradients.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Of those that NumPy has not: integers of the same size.
_STAND_INS = {torch.bfloat16: torch.int16}


def take(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """Return ``x.index_select(dim, index)``.

    Examples:
        >>> take(torch.arange(6).reshape(2, 3), torch.tensor([2, 0, 0]), 1).tolist()
        [[2, 0, 0], [5, 3, 3]]
    """
    if x.device.type != "cpu":
        return x.index_select(dim, index)
    return _tensor(_array(x).take(index.numpy(), axis=dim), x)


def contiguous_copy(x: Tensor) -> Tensor:
    """Return ``x.clone(memory_format=torch.contiguous_format)``.

    Examples:
        >>> contiguous_copy(torch.arange(6).reshape(2, 3).T).is_contiguous()
        True
    """
    if x.device.type != "cpu":
        return x.clone(memory_format=torch.contiguous_format)
    return _tensor(_array(x).copy(order="C"), x)


def converted(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``x.to(dtype)``.

    Examples:
        >>> converted(torch.tensor([1.00390625, -3.0]), torch.bfloat16).tolist()
        [1.0, -3.0]
    """
    if x.device.type != "cpu" or x.dtype == dtype:
        return x.to(dtype)
    if dtype == torch.bfloat16 and x.dtype == torch.float32:
        values = x.detach().numpy()
        bits = values.view(np.uint32)
        rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16  # to nearest even
        rounded[np.isnan(values)] = 0x7FC0
        return torch.from_numpy(rounded.astype(np.int16)).view(dtype)
    if dtype == torch.float32 and x.dtype == torch.bfloat16:
        return torch.from_numpy(_array(x).astype(np.uint32) << 16).view(dtype)
    return x.to(dtype)


def _array(x: Tensor) -> np.ndarray:
    """The tensor's memory as an array."""
    return x.detach().view(_STAND_INS.get(x.dtype, x.dtype)).numpy()


def _tensor(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(values).view(like.dtype)
