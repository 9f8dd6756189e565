"""Pairs of aligned low- and high-resolution patches from folders of photographs."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from srfast.training.degradation import degrade, footage
from srfast.training.metrics import UInt8Image, modcrop

MARGIN = (
    8  # LR pixels round a patch that is degraded by itself: further than its filters and the encoder's motion reach
)
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}
# Decoders fill what is missing of a cut-off file with gray; only the end mark tells.
END_MARKS = {".png": b"IEND", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}


@dataclass(frozen=True)
class Batch:
    """LR [N, C, h, w] and HR [N, C, H, W] in 0..1, labels [N]."""

    lr: Tensor
    hr: Tensor
    label: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device, images channels-last."""
        lr, hr = (t.to(device, memory_format=torch.channels_last) for t in (self.lr, self.hr))
        return Batch(lr, hr, self.label.to(device))


class Source(Protocol):
    """Where batches come from: a function of the iteration, so that a resumed run sees what it would have seen."""

    classes: int

    def batch(self, size: int, step: int, rank: int = 0) -> Batch:
        """Return ``size`` examples of iteration ``step`` in process ``rank``, the same whenever it is asked."""
        ...


def read_rgb(path: Path) -> UInt8Image:
    """Reads an image as uint8 RGB [H, W, 3]: gray is repeated, alpha dropped, 16 bits become 8, EXIF rotation applied.

    Raises:
        ValueError: not an image, or cut off.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    mark = END_MARKS.get(path.suffix.lower())
    if mark and mark not in content[-1024:]:
        raise ValueError(f"{path} is cut off: it has no end mark")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error as error:  # such as a header of absurd size
        raise ValueError(f"{path} cannot be read: {error.err}") from error
    if image is None:
        raise ValueError(f"{path} is not an image that OpenCV can read")
    return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)


def find_images(folders: Iterable[Path]) -> list[Path]:
    """All images below the folders, sorted; an empty result is an error."""
    folders = list(folders)
    paths = sorted(p for folder in folders for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"no images below {', '.join(map(str, folders))}")
    return paths


def to_tensor(image: UInt8Image) -> Tensor:
    """uint8 [H, W, C] -> float32 [C, H, W] in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float().div_(255.0)


class PatchPairs:
    """Random aligned patches, cropped from whole LR and HR images, flipped and transposed.

    The images are kept in memory as uint8, small ones too; only "footage" makes a patch small by itself, by another draw each
    time. What cannot be used is named in ``left_out``.

    Args:
        folders: folders searched for photographs; the label of a patch is the index of its folder.
        scale: HR size / LR size.
        patch: side of the LR patch in pixels.
        seed: seed of the sequence.
        degradation: how images become small, one of ``DEGRADATIONS``.

    Raises:
        ValueError: no image can be used.
    """

    def __init__(
        self, folders: Sequence[Path], scale: int, patch: int, seed: int = 0, degradation: str = "bicubic"
    ) -> None:
        self.scale, self.patch, self.seed = scale, patch, seed
        self.margin = MARGIN if degradation == "footage" else 0
        self.classes = len(folders)
        self.left_out: list[str] = []
        # LR, which is None where each patch is degraded by itself, HR, and the label.
        self.pairs: list[tuple[UInt8Image | None, UInt8Image, int]] = []
        # Fails here, before any photograph is decoded, if there is none at all.
        find_images(folders)
        for label, folder in enumerate(folders):
            for path in sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES):
                self._add(path, label, degradation)
        if not self.pairs:
            raise ValueError(
                f"no image can give a patch of {self._whole} times {scale} pixels; left out: {'; '.join(self.left_out[:5])}"
            )
        # Larger photographs give more patches.
        self.weights = [hr.shape[0] * hr.shape[1] for _, hr, _ in self.pairs]

    @property
    def _whole(self) -> int:
        """Side of what a patch is cut from, LR pixels."""
        return self.patch + 2 * self.margin

    def _add(self, path: Path, label: int, degradation: str) -> None:
        try:
            hr = modcrop(read_rgb(path), self.scale)
        except ValueError as error:
            self.left_out.append(str(error))
            return
        if min(hr.shape[:2]) < self._whole * self.scale:
            size = f"{hr.shape[1]}x{hr.shape[0]}"
            self.left_out.append(f"{path} is too small: {size}, a patch has {self._whole * self.scale}")
            return
        # "footage" draws anew for each patch.
        lr = None if self.margin else degrade(hr, self.scale, degradation, random.Random(0))
        self.pairs.append((lr, hr, label))

    def _one(self, rng: random.Random) -> tuple[UInt8Image, UInt8Image, int]:
        whole, hr, label = rng.choices(self.pairs, self.weights)[0]
        p, s, m = self.patch, self.scale, self.margin
        # The corner is drawn in LR pixels: at HR pixels the pair would be apart by a fraction of an LR pixel.
        y = rng.randint(m, hr.shape[0] // s - m - p)
        x = rng.randint(m, hr.shape[1] // s - m - p)
        if whole is None:
            around = hr[(y - m) * s : (y + p + m) * s, (x - m) * s : (x + p + m) * s]
            lr = footage(around, s, rng)[m : m + p, m : m + p]
        else:
            lr = whole[y : y + p, x : x + p]
        hr = hr[y * s : (y + p) * s, x * s : (x + p) * s]
        if rng.random() < 0.5:
            lr, hr = lr[::-1], hr[::-1]
        if rng.random() < 0.5:
            lr, hr = lr[:, ::-1], hr[:, ::-1]
        if rng.random() < 0.5:
            lr, hr = lr.swapaxes(0, 1), hr.swapaxes(0, 1)
        return lr, hr, label

    def batch(self, size: int, step: int, rank: int = 0) -> Batch:
        """The patches of iteration ``step`` in process ``rank``."""
        # A string as seed is hashed whole; sums of numbers would give step 1 of process 0 the data of step 0 of
        # process 1.
        rng = random.Random(f"{self.seed}/{rank}/{step}")
        lr, hr, label = zip(*(self._one(rng) for _ in range(size)), strict=True)
        return Batch(
            torch.stack([to_tensor(x) for x in lr]), torch.stack([to_tensor(x) for x in hr]), torch.tensor(label)
        )
