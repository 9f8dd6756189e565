"""Runs in processes of their own, forked from a server that has imported everything and started no thread."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from srfast.checkpoint import save_checkpoint
from srfast.errors import OutputError
from srfast.models import SRVGGNetCompact
from srfast.upscaler import Upscaler
from srfast.video import upscale_video
from srfast.video.source import COPIED

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["av", "cv2", "srfast.upscaler", "srfast.video", "srfast.models"])
SEGMENT = 6


def tiny_network() -> SRVGGNetCompact:
    torch.manual_seed(0)
    return SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2)


def tiny() -> Upscaler:
    return Upscaler(tiny_network())


def save_tiny(path: Path) -> str:
    """Writes its checkpoint; returns the name."""
    path.parent.mkdir(exist_ok=True)
    save_checkpoint(tiny_network(), path)
    return str(path)


def start(function: Callable[..., None], *arguments: Any) -> Any:
    """Starts a process."""
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def upscale(clip: Path, target: Path, resume: bool, limit: int | None = None, copy: tuple[str, ...] = COPIED) -> None:
    """One run, slow enough to be killed; exits with OutputError's code where the output cannot be written."""
    torch.set_num_threads(1)
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        upscale_video(
            clip,
            target,
            tiny(),
            segment=SEGMENT,
            resume=resume,
            copy=copy,
            on_progress=lambda p: time.sleep(0.004),
        )
    except OutputError as error:
        raise SystemExit(error.exit_code) from error


def stand_at(clip: Path, target: Path, frame: int) -> None:
    """A run that stays at a frame until it is killed."""
    torch.set_num_threads(1)

    def stand(progress: Any) -> None:
        while progress.done == frame:
            time.sleep(1)

    upscale_video(clip, target, tiny(), segment=SEGMENT, on_progress=stand)
