"""A service in a process of its own, and a small model that it offers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch

from srfast.models import SRVGGNetCompact
from tests.helpers.networks.small import randomise

REPOSITORY = Path(__file__).parent.parent.parent


class Server:
    """A running ``srfast serve`` or ``srfast ui``.

    Attributes:
        address: with the slash at its end and without a token.
        token: of the address, None where it has none.
        client: that knows both.
        said: lines of its standard error; whole when the process has ended.
    """

    def __init__(self, process: subprocess.Popen[str], address: str, token: str | None) -> None:
        self.process, self.address, self.token = process, address, token
        self.said: list[str] = []
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx.Client(base_url=address, timeout=120, headers=headers, trust_env=False)

    def wait(self, job_id: str, *states: str, seconds: float = 120) -> dict[str, Any]:
        """Waits until a job is in one of some states."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job: dict[str, Any] = self.client.get(f"videos/{job_id}").json()
            if job["state"] in states:
                return job
            time.sleep(0.05)
        raise AssertionError(f"the job is not {states}: {job}")

    def done(self, job_id: str, frames: int) -> None:
        """Waits until so many frames of a job are done."""
        while (job := self.client.get(f"videos/{job_id}").json())["done"] < frames:
            assert job["state"] in ("queued", "running"), job
            time.sleep(0.01)

    def resident(self) -> int:
        """Bytes of memory of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def small_model(path: Path) -> Path:
    """Writes a checkpoint of the fastest network, x2."""
    torch.manual_seed(0)
    network = randomise(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2))
    torch.save({"params": network.state_dict()}, path)
    return path


@contextmanager
def running(
    folder: Path, *options: str, command: str = "serve", end: int | None = signal.SIGTERM, before: str = "pass"
) -> Iterator[Server]:
    """Starts a service with the model 'tiny' on a free port of loopback, and ends it by a signal, or leaves it to the caller.

    Args:
        folder: of its model and its jobs.
        *options: of the command.
        command: 'serve' or 'ui'.
        end: the signal.
        before: Python that its process runs first.
    """
    model = folder / "tiny.pth"
    if not model.exists():
        small_model(model)
    arguments = [command, "--port", "0", "--jobs", str(folder / "jobs"), "-m", f"tiny={model}", "--device", "cpu"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{before}\nfrom srfast.cli import main\nraise SystemExit(main())",
            *arguments,
            *options,
        ],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        found = re.search(r"(http://\S+:\d+/)(?:\?token=(\S+))?", line)
        if found:
            break
    else:
        raise AssertionError("".join(said))
    server = Server(process, found[1], found[2])
    reader = threading.Thread(target=lambda: server.said.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        for _ in range(600):
            try:
                server.client.get("health")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield server
    finally:
        server.client.close()
        if process.poll() is None:
            process.send_signal(end or signal.SIGKILL)
        process.wait(60)
        reader.join(60)
