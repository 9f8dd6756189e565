"""A Ray cluster of several nodes on this machine, whose workers and nodes can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from srfast import cluster
from srfast.cluster.pool import RayPool, Resources
from srfast.cluster.schedule import Task
from tests.helpers.video.children import save_tiny
from tests.helpers.video.segments import LOSSLESS, in_one_run, moving_clip

STORE = 80_000_000
# Ray reads these when it is imported: nothing is reported, and a machine that is busy otherwise has its time.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_raylet_start_wait_time_s", "150")


@contextlib.contextmanager
def cluster_of(nodes: int, cpus: int = 1) -> Iterator[Any]:
    """A head without CPUs of its own and ``nodes`` with some, connected to."""
    import ray
    from ray.cluster_utils import Cluster

    before = signal.getsignal(signal.SIGTERM)  # Ray leaves a handler of its own, which would end later tests
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    )
    try:
        cluster.nodes = [cluster.add_node(num_cpus=cpus, object_store_memory=STORE) for _ in range(nodes)]
        ray.init(address=cluster.address, log_to_driver=False)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        signal.signal(signal.SIGTERM, before)


class CountingPool(RayPool):
    """Counts what is handed out, and what the workers say."""

    def __init__(self, **resources: Any) -> None:
        super().__init__(resources=Resources(**resources))
        self.submitted: list[Task] = []
        self.events: list[Any] = []
        self.late = 0

    def reset(self) -> CountingPool:
        """The same, its counts at zero."""
        self.submitted, self.events, self.late = [], [], 0
        return self

    def start(self, count: int, waiting: int) -> None:
        """Waits until ``count`` workers are there for ``waiting`` segments, however slow the machine is."""
        ends = time.monotonic() + 120
        while len(self.workers) < count:
            assert time.monotonic() < ends
            self.grow(waiting)
            self.wait(0.1)

    def again(self, segments: int) -> int:
        """Segments that were handed out again, less those that another worker was at for longer than usual."""
        assert {task.segment for task in self.submitted} == set(range(segments))
        return len(self.submitted) - segments - self.late

    def submit(self, name: str, task: Task, plan: str, folder: Path, token: str) -> None:
        self.late += any(task in worker.tasks.values() for worker in self._workers.values())
        self.submitted.append(task)
        super().submit(name, task, plan, folder, token)

    def wait(self, seconds: float) -> list[Any]:
        events = super().wait(seconds)
        self.events += events
        return events


def kill_a_worker(number: int = 0) -> bool:
    """Kills one of the actors of this machine's workers that belong to this process; False if there is none."""
    pids = sorted(pid for pid in _descendants(os.getpid()) if b"ray::Shell" in _command(pid))
    if not pids:
        return False
    os.kill(pids[number % len(pids)], signal.SIGKILL)
    return True


def wait_for(condition: Any, seconds: float = 60) -> None:
    """Waits until a function is true."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _descendants(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, before = {root}, 0
    while len(found) != before:
        before = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found - {root}


def work_of(folder: Path, frames: int) -> Path:
    """A model (tiny.pth), a clip with ten frames a segment (in.mkv), and whole.mkv by a single run, in ``folder``."""
    save_tiny(folder / "tiny.pth")
    moving_clip(folder / "in.mkv", frames=frames, options={"x264-params": "scenecut=0"}, beside=True)
    in_one_run(folder / "in.mkv", folder / "whole.mkv", str(folder / "tiny.pth"))
    return folder


def upscale(
    folder: Path,
    target: Path,
    pool: RayPool,
    at: Callable[[int], None] = lambda done: None,
    name: str = "in.mkv",
    **options: Any,
) -> Any:
    """What becomes of ``name`` in the folder of ``work_of``, on the CPU in float32; ``at`` is given the frames done so far."""
    options = {"encoding": LOSSLESS, "seconds": 0.3, "device": "cpu", "dtype": "fp32"} | options
    return cluster.upscale(
        folder / name,
        target,
        str(folder / "tiny.pth"),
        pool=pool,
        on_progress=lambda done, total, seconds, before: at(done),
        **options,
    )[0]
