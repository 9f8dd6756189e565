"""Pairs of aligned low- and high-resolution patches from folders of photographs."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srfast.training.imresize import imresize
from srfast.training.metrics import modcrop

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """Reads an image as uint8 RGB [H, W, 3]."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} is not an image that OpenCV can read")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def find_images(folders: Iterable[Path]) -> list[Path]:
    """All images below the folders, sorted; an empty result is an error."""
    paths = sorted(p for folder in folders for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"no images below {', '.join(map(str, folders))}")
    return paths


def to_tensor(image: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [H, W, C] -> float32 [C, H, W] in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float().div_(255.0)


class PatchPairs:
    """Random aligned patches: LR by MATLAB bicubic of the whole image, then cropped, flipped and transposed.

    The images are kept in memory as uint8. One seed gives one sequence of batches.

    Args:
        folders: folders searched for photographs.
        scale: HR size / LR size.
        patch: side of the LR patch in pixels.
        seed: seed of the sequence.
    """

    def __init__(self, folders: Iterable[Path], scale: int, patch: int, seed: int = 0) -> None:
        self.scale, self.patch = scale, patch
        self.random = random.Random(seed)
        self.pairs: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]] = []
        for path in find_images(folders):
            hr = modcrop(read_rgb(path), scale)
            if min(hr.shape[:2]) >= patch * scale:
                self.pairs.append((imresize(hr, 1 / scale), hr))
        if not self.pairs:
            raise ValueError(f"no image is as large as {patch * scale} pixels, the patch of {patch} times {scale}")
        # Larger photographs give more patches.
        self.weights = [lr.shape[0] * lr.shape[1] for lr, _ in self.pairs]

    def _one(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        (lr, hr) = self.random.choices(self.pairs, self.weights)[0]
        p, s = self.patch, self.scale
        y = self.random.randint(0, lr.shape[0] - p)
        x = self.random.randint(0, lr.shape[1] - p)
        lr, hr = lr[y : y + p, x : x + p], hr[y * s : (y + p) * s, x * s : (x + p) * s]
        if self.random.random() < 0.5:
            lr, hr = lr[::-1], hr[::-1]
        if self.random.random() < 0.5:
            lr, hr = lr[:, ::-1], hr[:, ::-1]
        if self.random.random() < 0.5:
            lr, hr = lr.swapaxes(0, 1), hr.swapaxes(0, 1)
        return lr, hr

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Returns LR [size, 3, p, p] and HR [size, 3, s*p, s*p], float32 in 0..1."""
        lr, hr = zip(*(self._one() for _ in range(size)), strict=True)
        return torch.stack([to_tensor(x) for x in lr]), torch.stack([to_tensor(x) for x in hr])
