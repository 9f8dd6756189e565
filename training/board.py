"""Shows a run: log lines, a bar on a terminal, TensorBoard scalars and image grids where tensorboard is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from srfast.training.data import find_images, read_rgb
from srfast.training.evaluate import upscale_rgb
from srfast.training.imresize import imresize
from srfast.training.metrics import UInt8Image, modcrop
from srfast.training.reparameterise import folded

if TYPE_CHECKING:
    from srfast.training.trainer import Trainer

WIDTH = 24


class Board:
    """Args: the run's folder, its length, and the folder whose first image becomes the grid (or None)."""

    def __init__(self, out: Path, iterations: int, folder: Path | None) -> None:
        self.iterations, self.folder = iterations, folder
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.writer = None
        else:
            self.writer = SummaryWriter(str(out / "board"))  # type: ignore[no-untyped-call]

    def show(self, record: dict[str, Any], trainer: Trainer) -> None:
        """Called by the trainer with every log record."""
        step = record["step"]
        scalars = {k: v for k, v in record.items() if k not in ("step", "seconds")}
        if sys.stdout.isatty():
            done = WIDTH * step // self.iterations
            print(f"[{'#' * done}{'.' * (WIDTH - done)}] ", end="")
        values = ", ".join(f"{k.removeprefix('generator/')} {v:.5g}" for k, v in scalars.items())
        print(f"{step}/{self.iterations} {values}, {record['seconds']:.0f} s", flush=True)
        if self.writer is None:
            return
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call]
        if "psnr" in scalars and self.folder is not None:
            # Folded: the average of the training blocks is shown as the network that will be saved.
            grid = picture_row(folded(trainer.average.module), find_images([self.folder])[0], trainer.config.scale)
            self.writer.add_image("LR, bicubic, result, HR", grid, step, dataformats="HWC")  # type: ignore[no-untyped-call]
        self.writer.flush()  # type: ignore[no-untyped-call]


def picture_row(model: torch.nn.Module, path: Path, scale: int, side: int = 128) -> UInt8Image:
    """The middle ``side`` pixels of one image as LR (enlarged by repetition), bicubic, result and HR, in a row."""
    hr = modcrop(read_rgb(path), scale)
    lr = imresize(hr, 1 / scale)
    repeated = lr.repeat(scale, 0).repeat(scale, 1)
    images = [repeated, imresize(lr, scale), upscale_rgb(model, lr), hr]
    y, x = (max(0, (n - side) // 2) for n in hr.shape[:2])
    return np.concatenate([image[y : y + side, x : x + side] for image in images], axis=1)
