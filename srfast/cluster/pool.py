"""Workers on Ray: actors that build their engine once and compute one segment at a time. All that knows Ray is here."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srfast._version import __version__
from srfast.cluster.schedule import AHEAD, Task
from srfast.errors import MissingDependencyError, OutputError

_log = logging.getLogger("srfast")
_STORE = (
    200 << 20
)  # bytes of Ray's object store on a local machine: what goes through it are records, and at most one segment
_PERIOD = 1.0  # seconds between two looks at the resources
_PATIENCE = 30.0  # seconds without a worker after which the reason is said


@dataclass(frozen=True)
class Event:
    """What a worker says: 'done', 'error', 'lost', or 'refused' for a machine that cannot work.

    Attributes:
        kind: one of these.
        worker: its number.
        node: where it runs.
        task: what it is about.
        result: of 'done': the record, and the segment's bytes where the worker does not see the driver's folder.
        message: of 'error', 'lost' and 'refused'.
        code: of 'error', the exit code of its kind.
        others: of 'lost', tasks that it had not begun.
    """

    kind: str
    worker: str
    node: str = ""
    task: Task | None = None
    result: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    code: int = 1
    others: tuple[Task, ...] = ()


@dataclass(frozen=True)
class Resources:
    """What a worker takes of a machine; None of GPUs is one where the cluster has any."""

    gpus: float | None = None
    cpus: float | None = None
    workers: int | None = None


def require_ray() -> Any:
    """Ray's module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            f"--ray needs Ray ({error}); install it with: pip install 'srfast[ray]'"
        ) from error
    return ray


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM when it is imported; the command ends in order by it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Worker:
    actor: Any
    hello: Any
    name: str
    node: str = ""
    tasks: dict[Any, Task] = field(default_factory=dict)  # by reference, in their order


class RayPool:
    """Actors on a cluster, as many as fit and are of use.

    Args:
        address: of the cluster; None for a local one, which ends with the pool. A Ray that this process has is taken as it is.
        resources: of a worker.

    Raises:
        OutputError: there is no cluster.
        MissingDependencyError: Ray is not installed.
    """

    def __init__(self, address: str | None = None, resources: Resources | None = None) -> None:
        with _own_signals():
            self._ray, self._resources = require_ray(), resources or Resources()
            self._own = not self._ray.is_initialized()
            if self._own:
                self._start(address)
        self._workers: dict[str, _Worker] = {}
        self._count, self._looked, self._asked = 0, 0.0, 0
        self._missed: float | None = None  # when there was work and no worker first
        self._said = False
        self._events: list[Event] = []
        self._bad: set[str] = set()
        self._held: list[Any] = []
        self._need = self._needs(address)
        named = {"GPU": self._need["num_gpus"], "CPU": self._need["num_cpus"]}
        self._bundle = {name: need for name, need in named.items() if need}
        self._class = _actor_class(self._ray)

    def _start(self, address: str | None) -> None:
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        # What later versions of Ray do, and this one warns of: workers that ask for no GPU keep the variables that name
        # them.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address is None:
            os.environ.setdefault("RAY_worker_niceness", "0")  # as without Ray
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # who upscales a video has not asked to be counted
            settings |= {"num_cpus": os.cpu_count() or 1, "num_gpus": _devices(), "object_store_memory": _STORE}
            # Without an address Ray would join a cluster that somebody started on this machine, and refuse the rest.
            settings |= {"address": "local", "include_dashboard": False}
        else:
            settings["address"] = address
        try:
            self._ray.init(**settings)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            where = "Ray does not start here" if address is None else f"there is no Ray cluster at {address}"
            raise OutputError(
                f"{where}: {str(error).splitlines()[0]:.200}", "see: ray status --address ADDRESS"
            ) from error

    def _needs(self, address: str | None) -> dict[str, float]:
        """CPUs and GPUs of a worker."""
        total = self._ray.cluster_resources()
        gpus, cpus = self._resources.gpus, self._resources.cpus
        if gpus is None:
            gpus = 1.0 if total.get("GPU") else 0.0
        if cpus is None:
            local = self._own and address is None
            cpus = 0.0 if gpus else float(total.get("CPU", 1)) if local else 1.0
        return {"num_gpus": gpus, "num_cpus": cpus}

    @property
    def workers(self) -> dict[str, str]:
        """Those that are ready, each with its machine."""
        return {name: worker.node for name, worker in self._workers.items() if worker.node}

    def grow(self, waiting: int) -> None:
        """Starts workers for what waits where there is room; without any worker one waits for room.

        Not more: while an actor waits, Ray has all processes of the machine collect garbage every ten seconds, which stops a
        worker for a third of a second. One that has not begun is given up when nothing waits, as on a full cluster it would
        take the place of others later.
        """
        if not waiting:
            for worker in [worker for worker in self._workers.values() if not worker.node]:
                self._drop(worker)
            self._ask(0)
            return
        now = time.monotonic()
        if now - self._looked < _PERIOD:
            return
        self._looked = now
        self._say_what_is_missing(now)
        starting = sum(not worker.node for worker in self._workers.values())
        room = self._room() - starting
        wanted = math.ceil(waiting / AHEAD) - starting
        if self._resources.workers is not None:
            wanted = min(wanted, self._resources.workers - len(self._workers))
        self._ask(waiting)
        for _ in range(min(wanted, max(room, 0 if self._workers else 1))):
            self._add()

    def _room(self) -> int:
        """Workers that the free resources of the cluster would take."""
        free = self._ray.available_resources()
        sides = [free.get(name, 0.0) / need for name, need in self._bundle.items()]
        return int(min(sides, default=1))

    def _say_what_is_missing(self, now: float) -> None:
        """Tells once what a worker takes and what is free, where none has come for a while."""
        if self.workers or self._missed is None:
            self._missed = now
        if self._said or now - self._missed < _PATIENCE:
            return
        self._said = True
        free, total = self._ray.available_resources(), self._ray.cluster_resources()
        there = ", ".join(
            f"{need:g} {name} ({free.get(name, 0):g} of {total.get(name, 0):g} are free)"
            for name, need in self._bundle.items()
        )
        _log.warning("no worker is ready after %.0f s, and it goes on waiting: each takes %s", _PATIENCE, there)

    def _ask(self, waiting: int) -> None:
        """Tells an autoscaler what would be of use; without one nobody listens."""
        wanted = min(math.ceil(waiting / AHEAD), self._resources.workers or 1 << 10) + len(self.workers)
        wanted = wanted if waiting else 0
        if wanted == self._asked:
            return
        self._asked = wanted
        try:
            from ray.autoscaler.sdk import request_resources

            request_resources(bundles=[self._bundle] * wanted if self._bundle else [])
        except Exception as error:
            _log.info("the autoscaler cannot be asked: %s", error)

    def _add(self) -> None:
        self._count += 1
        name = f"worker {self._count}"
        # Lost segments are handed out anew by the driver, which knows which were begun: Ray restarts nothing behind its back.
        # All segments that it has are its own at once: it opens the next one while it computes one.
        actor = self._class.options(
            **self._need, max_restarts=0, max_task_retries=0, max_concurrency=AHEAD, scheduling_strategy="SPREAD"
        ).remote()
        self._workers[name] = _Worker(actor, actor.hello.remote(), name)

    def submit(self, name: str, task: Task, plan: str, folder: Path, token: str) -> None:
        """Gives a worker a segment; ``plan`` is its text, and ``token`` a file in the driver's folder."""
        worker = self._workers[name]
        worker.tasks[worker.actor.segment.remote(plan, task.segment, str(folder), token)] = task

    def load(self, name: str) -> int:
        """Segments that a worker has."""
        return len(self._workers[name].tasks)

    def wait(self, seconds: float) -> list[Event]:
        """What has happened, after at most ``seconds``."""
        refs = {worker.hello: worker for worker in self._workers.values() if not worker.node}
        refs |= {ref: worker for worker in self._workers.values() for ref in worker.tasks}
        if not refs:
            time.sleep(seconds if not self._events else 0)
        else:
            ready, _ = self._ray.wait(list(refs), num_returns=1, timeout=seconds)
            if ready:
                # The first call ends with one that is ready; whatever else is ready too is taken at once.
                ready, _ = self._ray.wait(list(refs), num_returns=len(refs), timeout=0)
            for ref in ready:
                self._settle(ref, refs[ref])
        events, self._events = self._events, []
        return events

    def _settle(self, ref: Any, worker: _Worker) -> None:
        if worker.name not in self._workers:
            return
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._gone(worker, str(error).strip().splitlines()[-1][:200])
            return
        if ref == worker.hello:
            self._greet(worker, answer)
            return
        task = worker.tasks.pop(ref)
        if "error" in answer:
            self._events.append(
                Event("error", worker.name, worker.node, task, message=answer["error"], code=answer["code"])
            )
        else:
            self._events.append(Event("done", worker.name, worker.node, task, result=answer))

    def _greet(self, worker: _Worker, answer: dict[str, Any]) -> None:
        node = str(answer["node"])
        if answer.get("version") != __version__:
            has = f"srfast {answer['version']}" if answer.get("version") else f"no srfast ({answer.get('why')})"
            self._held.append(self._workers.pop(worker.name).actor)  # it keeps its place, so that no other goes there
            if node not in self._bad:
                self._bad.add(node)
                self._events.append(
                    Event("refused", worker.name, node, message=f"{node} has {has}, and the driver {__version__}")
                )
            return
        worker.node = node

    def _gone(self, worker: _Worker, why: str) -> None:
        tasks = list(worker.tasks.values())
        self._drop(worker)
        # Segments are computed one by one in their order: only the first can be what killed the worker.
        first, others = tasks[:1], tasks[1:]
        self._events.append(
            Event("lost", worker.name, worker.node, first[0] if first else None, message=why, others=tuple(others))
        )

    def _drop(self, worker: _Worker) -> None:
        self._workers.pop(worker.name, None)
        self._ray.kill(worker.actor)

    def close(self) -> None:
        """Ends all workers, and a local cluster."""
        for worker in list(self._workers.values()):
            self._drop(worker)
        for actor in self._held:
            self._ray.kill(actor)
        self._ask(0)
        if self._own:
            self._ray.shutdown()


class Starting:
    """A pool on Ray that starts while the caller does something else, and ends with the context.

    Args:
        address, resources: as for ``RayPool``.
    """

    def __init__(self, address: str | None, resources: Resources) -> None:
        self._make = functools.partial(RayPool, address, resources)
        self._executor = ThreadPoolExecutor(1, "srfast-ray")
        self._pool: Future[RayPool] | None = None

    def begin(self) -> None:
        """Starts it."""
        self._pool = self._executor.submit(self._make)

    def wait(self) -> RayPool:
        """The pool, once it is there; raises what ``RayPool`` does."""
        if self._pool is None:
            self.begin()
        assert self._pool is not None
        return self._pool.result()

    def __enter__(self) -> Starting:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None and self._pool.exception() is None:
            # In the thread that Ray was started in: from another one it waits for five seconds.
            self._executor.submit(self._pool.result().close).result()
        self._executor.shutdown()


def _devices() -> int:
    """GPUs of this machine that PyTorch can use."""
    drivers = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    if sys.platform == "linux" and not any(os.path.exists(driver) for driver in drivers):
        return 0  # without PyTorch, which takes as long to import as Ray to start
    import torch

    return torch.cuda.device_count()


def _actor_class(ray: Any) -> Any:
    """The actor. It is sent by its content, so that a machine without srfast can say so."""

    class Shell:
        """A thin shell round ``srfast.cluster.worker``."""

        def __init__(self) -> None:
            self._worker: Any = None

        def hello(self) -> dict[str, Any]:
            """Where it is, and with which srfast."""
            import gc
            import os

            import ray as here

            node = f"{os.uname().nodename} ({here.get_runtime_context().get_node_id()[:6]})"
            try:
                from srfast._version import __version__ as version
                from srfast.cluster.worker import Worker
            except ImportError as error:
                return {"node": node, "why": str(error)}
            # Ray has workers collect garbage when it is short of anything; what was imported would be looked at each time.
            gc.freeze()
            self._worker = Worker(node)
            return {"node": node, "version": version}

        def segment(self, plan: str, number: int, folder: str, token: str) -> dict[str, Any]:
            """One segment."""
            answer: dict[str, Any] = self._worker.segment(plan, number, folder, token)
            return answer

    made: Callable[..., Any] = ray.remote(Shell)
    return made
