"""Frames as people have them: numpy BGR uint8 in and out, conversions and copies included."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.contenders import EAGER, OURS
from benchmarks.loops import Frame, Upscale, eager_frame, openvino_frame, real_esrgan_frame
from benchmarks.peers import MissingError
from benchmarks.sampling import Run
from benchmarks.session import Session
from benchmarks.subjects import COMPACT_X4, SRRESNET_X4, Subject
from srfast.upscaler import Upscaler

SIZES = {"cpu": (240, 136), "cuda": (480, 270)}


def photograph(width: int, height: int) -> Frame:
    """A smooth picture with some noise, [height, width, 3]."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (9, 16, 3), dtype=np.uint8)
    picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.asarray((picture + generator.integers(-6, 7, picture.shape)).clip(0, 255), dtype=np.uint8)


def opencv_superres(name: str) -> Upscale:
    """``cv2.dnn_superres`` with one of the networks that its users download."""
    superres: Any = getattr(cv2, "dnn_superres", None)
    if superres is None:
        raise MissingError("this OpenCV has no dnn_superres (opencv-contrib-python has)")
    folder = Path(os.environ.get("SRFAST_DATA", ".")) / "checkpoints" / "opencv_dnn_superres"
    path = folder / f"{name}_x4.pb"
    if not path.exists():
        raise MissingError(f"{path} does not exist; set SRFAST_DATA to the folder of the checkpoints")
    network = superres.DnnSuperResImpl_create()
    network.readModel(str(path))
    network.setModel(name.lower(), 4)
    return lambda frame: np.asarray(network.upsample(frame), dtype=np.uint8)


def ways(subject: Subject, device: torch.device, size: tuple[int, int]) -> dict[str, Callable[[], Upscale]]:
    """Name -> function that builds an upscaler of frames; srfast first."""
    found: dict[str, Callable[[], Upscale]] = {
        OURS: lambda: Upscaler(subject.module(), device=device),
        EAGER: lambda: eager_frame(subject.module(), device, torch.float32),
        "Real-ESRGAN's steps, eager fp32": lambda: real_esrgan_frame(subject.module(), device, torch.float32),
    }
    if device.type == "cuda":
        return found | {
            "eager fp16": lambda: eager_frame(subject.module(), device, torch.float16),
            "Real-ESRGAN's steps, eager fp16": lambda: real_esrgan_frame(subject.module(), device, torch.float16),
        }
    found["OpenVINO f32, latency"] = lambda: openvino_frame(subject.module(), size[1], size[0])
    for name in ("ESPCN", "FSRCNN"):
        found[f"cv2.dnn_superres {name} x4 (another, much smaller network)"] = partial(opencv_superres, name)
    return found


@pytest.mark.parametrize("subject", [SRRESNET_X4, COMPACT_X4], ids=lambda s: s.name)
def test_frame(bench: Session, benchmark: BenchmarkFixture, subject: Subject) -> None:
    size = SIZES[bench.device.type]
    frame = photograph(*size)
    built, missing = {}, {}
    for name, build in ways(subject, bench.device, size).items():
        try:
            built[name] = build()
        except MissingError as error:
            missing[f"{name} (frames, {subject.name})"] = str(error)
    results = {name: upscale(frame) for name, upscale in built.items()}
    for name, result in results.items():
        assert result.shape == results[EAGER].shape, name
        if "another" not in name:
            apart = np.abs(result.astype(int) - results[EAGER].astype(int))
            # The bottom and right borders see mirrored pixels in Real-ESRGAN's way.
            assert (apart[:-160, :-160] <= 1).mean() > 0.999, name
    runs: dict[str, Run] = {name: partial(upscale, frame) for name, upscale in built.items()}
    bench.time("frame", subject.name, f"{size[0]}x{size[1]}", runs, benchmark.pedantic, missing)
