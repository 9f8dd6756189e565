"""The fused network against the plain PyTorch module in float32, on a user's own frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from srfast._names import openable
from srfast.checkpoint import LoadedModel
from srfast.engine import Engine
from srfast.errors import InputError
from srfast.images import SUFFIXES, read_image
from srfast.images.arrays import eight_bits
from srfast.models.bordered import Bordered

Image = npt.NDArray[np.uint8]
CLIP = Path(__file__).parents[1] / "assets" / "clip.mp4"


@dataclass(frozen=True)
class Verification:
    """How the fused result differs from eager float32, over all frames, in uint8 levels.

    Attributes:
        frames: compared.
        width, height: of the compared part of each frame, in input pixels.
        ran: backend, device and type of the fused network.
        max_difference: largest difference of a value.
        within_one: share of values that differ by at most 1.
        psnr: of the fused result against the eager one, in dB; infinite where they are equal.
        redone: frames whose fused result was NaN or infinite somewhere in its own type, so that they ran again in float32.
        non_finite: values of the eager result that are NaN or infinite.
    """

    frames: int
    width: int
    height: int
    ran: str
    max_difference: int
    within_one: float
    psnr: float
    redone: int
    non_finite: int

    @property
    def passed(self) -> bool:
        """At least 99.9 % of the values within one level, and all finite."""
        return self.within_one >= 0.999 and self.non_finite == 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity."""
        return asdict(self) | {"psnr": self.psnr if math.isfinite(self.psnr) else None, "passed": self.passed}

    def __str__(self) -> str:
        psnr = f"{self.psnr:.1f} dB" if math.isfinite(self.psnr) else "equal"
        frames = f"{self.frames} frame{'s' if self.frames != 1 else ''}"
        return (
            f"{'passed' if self.passed else 'FAILED'}: {frames} of {self.width}x{self.height} on {self.ran} against "
            f"eager float32\n  largest difference {self.max_difference} of 255, {self.within_one:.4%} within 1, PSNR {psnr}\n"
            f"  not finite: {self.non_finite} values in float32; {self.redone} frames in the fused network's own type"
        )


def verify(model: LoadedModel, engine: Engine, frames: Iterable[Image], side: int = 256) -> Verification:
    """Runs both on the middle of each frame.

    Args:
        model: what ``engine`` runs.
        engine: the fused network.
        frames: RGB [H, W, 3] uint8.
        side: the compared part has at most so many pixels in height and width, to keep eager PyTorch's memory small.

    Raises:
        InputError: there are no frames.
    """
    count, largest, total, squares, near, broken = 0, 0, 0, 0.0, 0, 0
    redone = engine.statistics.redone
    height = width = 0
    for frame in frames:
        part = torch.from_numpy(_middle(frame, side))[None]
        height, width = part.shape[1:3]
        expected = eager(model.module, part, engine.plan.alignment)
        broken += int((~torch.isfinite(expected)).sum())
        # What eager PyTorch gives is rounded as a user would store it: a difference that no file holds is none.
        levels = expected.nan_to_num(0).clamp(0, 1).mul(255).round()
        difference = (engine(part).double() - levels.double()).abs()
        count, total = count + 1, total + difference.numel()
        largest = max(largest, int(difference.max()))
        # Summed over all frames and divided once: the mean of PSNRs would hide one bad frame.
        squares += float(difference.square().sum())
        near += int((difference <= 1).sum())
    if count == 0:
        raise InputError("there are no frames to compare")
    psnr = 10 * math.log10(255**2 * total / squares) if squares else math.inf
    redone = engine.statistics.redone - redone
    dtype = str(engine.dtype).removeprefix("torch.")
    ran = f"{engine.backend.name} ({engine.device}, {dtype})"
    return Verification(count, width, height, ran, largest, near / total, psnr, redone, broken)


@torch.inference_mode()
def eager(module: nn.Module, images: torch.Tensor, alignment: int) -> torch.Tensor:
    """[N, H, W, C] uint8 through the plain module in float32, as [N, s*H, s*W, C] in 0..1, neither rounded nor limited."""
    _, height, width, _ = images.shape
    x = images.permute(0, 3, 1, 2).float() / 255
    alignment = 1 if isinstance(module, Bordered) else alignment  # such a network sees to it itself
    bottom, right = -height % alignment, -width % alignment
    if bottom or right:
        # PyTorch cannot mirror more pixels than there are.
        mode = "reflect" if bottom < height and right < width else "replicate"
        x = F.pad(x, (0, right, 0, bottom), mode=mode)
    y: torch.Tensor = module(x)
    scale = y.shape[2] // x.shape[2]
    return y[:, :, : height * scale, : width * scale].permute(0, 2, 3, 1)


def _middle(frame: Image, side: int) -> Image:
    height, width = frame.shape[:2]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return np.ascontiguousarray(frame[top : top + side, left : left + side])


def frames_of(path: Path, count: int) -> Iterator[Image]:
    """RGB frames of a video, spread over its first ``count`` ones, or the one of an image.

    Raises:
        InputError: neither an image nor a video, or 16 bits or transparency that the comparison does not cover.
    """
    if path.suffix.lower() in SUFFIXES:
        image = eight_bits(read_image(path))
        colour = np.stack([image] * 3, 2) if image.ndim == 2 else image[:, :, 2::-1]
        yield np.ascontiguousarray(colour)
        return
    from srfast.video.source import require_av

    av = require_av()
    try:
        with openable(path) as name, av.open(name) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index == count:
                    return
                yield frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"{path} is not a video: {error}") from error
