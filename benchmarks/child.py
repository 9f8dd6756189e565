"""One contender in a process of its own, for what a shared process hides: memory, and the time to the first image.

    python -m benchmarks.child '{"subject": "Compact x4", "contender": "srfast", "width": 240, "height": 136}'

Prints JSON: seconds to the first result (imports included), seconds of each further call, and bytes of resident memory:
before the network was built, and at most.
"""

from __future__ import annotations

import time

STARTED = time.time()

import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402

from benchmarks.contenders import contenders  # noqa: E402
from benchmarks.sampling import Clock, Run  # noqa: E402
from benchmarks.subjects import by_name  # noqa: E402
from srfast.backends import default_device  # noqa: E402
from srfast.capture import capture  # noqa: E402
from srfast.engine import Engine  # noqa: E402
from srfast.plan.passes import optimise  # noqa: E402
from srfast.upscaler import Upscaler  # noqa: E402


@dataclass(frozen=True)
class Task:
    """What to run.

    Attributes:
        subject, contender: by the suite's names; contender 'engine' is srfast's engine on uint8 images.
        width, height, batch: of the images.
        calls: after the first.
        threads: of every runtime; 0 for the default.
        tile: of the engine; 0 never tiles.
        frames: above 0, a video of so many frames instead of an image; a call is the whole video.
    """

    subject: str
    contender: str
    width: int
    height: int
    batch: int = 1
    calls: int = 5
    threads: int = 0
    tile: int = 0
    frames: int = 0


def build(task: Task, device: torch.device, folder: Path) -> Run:
    """The function to time."""
    subject = by_name(task.subject)
    if task.frames:
        return video(task, folder)
    x = subject.image(task.width, task.height, task.batch).to(device)
    if task.contender == "engine":
        images = (x.permute(0, 2, 3, 1) * 255).to(torch.uint8).contiguous()
        engine = Engine(optimise(capture(subject.module())), device=device, tile=task.tile)
        return lambda: engine(images)
    chosen = {c.name: c for c in contenders(device)}[task.contender]
    return chosen.build(subject.module().to(device), x)


def video(task: Task, folder: Path) -> Run:
    """A moving picture of ``frames`` frames through srfast.upscale_video."""
    import cv2
    import numpy as np

    import srfast

    source, target = folder / "in.mp4", folder / "out.mp4"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"mp4v"), 25, (task.width, task.height))
    picture = np.random.default_rng(0).integers(0, 256, (task.height, task.width, 3), dtype=np.uint8)
    for index in range(task.frames):
        writer.write(np.roll(picture, index, 1))
    writer.release()
    upscaler = Upscaler(by_name(task.subject).module())
    return lambda: srfast.upscale_video(source, target, upscaler, overwrite=True)


def resident(key: str) -> int:
    """VmRSS or VmHWM (the most so far) of this process in bytes; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(key + ":")), 0)


@torch.inference_mode()
def perform(task: Task) -> dict[str, Any]:
    """Runs the task."""
    if task.threads:
        torch.set_num_threads(task.threads)
    device = default_device()
    before = resident("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        run = build(task, device, Path(folder))
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        first = time.time() - STARTED
        clock = Clock(torch.device("cpu") if task.frames else device)
        samples = [clock(run) for _ in range(task.calls)]
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else resident("VmHWM")
    return {"first": first, "samples": samples, "before": before, "peak": peak}


def command(task: Task) -> list[str]:
    """The command line that performs the task."""
    return [sys.executable, "-W", "ignore", "-m", "benchmarks.child", json.dumps(asdict(task))]


if __name__ == "__main__":
    print(json.dumps(perform(Task(**json.loads(sys.argv[1])))))
