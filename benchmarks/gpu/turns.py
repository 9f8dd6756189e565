"""Runs jobs in processes of their own, several at a time, that have the GPU one at a time; a line of JSON for each.

A job that hangs, crashes or is killed costs its own line and nothing else. Preparing and compiling go on side by side; a
job asks for its turn before it checks or measures, and what it waits for that does not count against its limit.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.jobs import Job

# Seconds that one turn may take: what is measured takes milliseconds.
TURN = 25.0
# Characters of a failed job's output that its line keeps.
TAIL = 600


class Link:
    """A job's end of the line to the process that started it.

    Args:
        number: of the socket's file descriptor.
    """

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(fileno=number)

    def report(self, part: dict[str, Any]) -> None:
        """Adds to the job's line."""
        self._socket.sendall(json.dumps({"part": part}).encode() + b"\n")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for the GPU and has it for this job alone."""
        self._socket.sendall(b'{"ask": true}\n')
        if self._socket.recv(1) != b"g":
            raise RuntimeError("the process that hands out turns is gone")
        try:
            yield
        finally:
            self._socket.sendall(b'{"done": true}\n')


@dataclass
class Child:
    """A job that runs.

    Attributes:
        ends: when it is taken to hang (``time.monotonic``); None while it waits for its turn.
        left: seconds that it had left when it began to wait.
    """

    job: Job
    process: int
    link: socket.socket
    output: Path
    started: float
    ends: float | None
    left: float = 0.0
    row: dict[str, Any] = field(default_factory=dict)
    received: bytes = b""


class Turns:
    """Runs jobs.

    Args:
        path: file to add a line to for each job.
        start: runs one job in the process that is given, with its end of the link; called after a fork.
        at_once: processes at a time.
        seconds: after which no further job begins and those that run are stopped.
        turn: seconds that a job may have the GPU at a time.
    """

    def __init__(
        self, path: Path, start: Callable[[Job, int], int], at_once: int, seconds: float, turn: float = TURN
    ) -> None:
        self._path, self._start, self._at_once, self._turn = path, start, at_once, turn
        self._ends = time.monotonic() + seconds
        self._children: list[Child] = []
        self._owner: Child | None = None
        self._selector = selectors.DefaultSelector()

    def run(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Runs jobs; gives all lines, in the order in which the jobs ended."""
        waiting, rows = list(jobs), list[dict[str, Any]]()
        with tempfile.TemporaryDirectory() as folder:
            while waiting or self._children:
                over = time.monotonic() >= self._ends
                while waiting and (over or len(self._children) < self._at_once):
                    job = waiting.pop(0)
                    if over:
                        rows.append(self._write({"name": job.name, "failed": "no time was left"}))
                    else:
                        self._begin(job, Path(folder) / f"{len(waiting)}.txt")
                rows += self._step(over)
        return rows

    def _begin(self, job: Job, output: Path) -> None:
        ours, theirs = socket.socketpair()
        theirs.set_inheritable(True)
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            self._become(job, theirs, output)
        theirs.close()
        now = time.monotonic()
        child = Child(job, process, ours, output, now, now + job.seconds)
        self._children.append(child)
        self._selector.register(ours, selectors.EVENT_READ, child)

    def _become(self, job: Job, link: socket.socket, output: Path) -> None:
        """Does what the new process is for; never returns."""
        code = 1
        try:
            os.setsid()
            _die_with_parent()
            target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(target, 1)
            os.dup2(target, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            for other in self._children:
                other.link.close()
            code = self._start(job, link.detach())
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _step(self, over: bool) -> list[dict[str, Any]]:
        """Waits for whatever comes next; gives the lines of jobs that ended."""
        now = time.monotonic()
        ends = [child.ends for child in self._children if child.ends is not None]
        wait = max(0.0, min([now + 1.0, self._ends, *ends]) - now)
        for key, _ in self._selector.select(0 if over else wait):
            self._receive(key.data)
        rows, now = list[dict[str, Any]](), time.monotonic()
        for child in list(self._children):
            done, status = os.waitpid(child.process, os.WNOHANG)
            if done:
                rows.append(self._end(child, _how(status)))
            elif over or (child.ends is not None and now >= child.ends):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.process, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.process, signal.SIGKILL)
                _await(child.process)
                limit = min(child.left, self._turn) if self._owner is child else child.job.seconds
                hung = f"hung: more than {limit:.0f} s {'in its turn' if self._owner is child else 'of its own'}"
                rows.append(self._end(child, "no time was left" if over else hung))
        self._hand_over()
        return rows

    def _receive(self, child: Child) -> bool:
        """Takes what a job says; whether it said anything."""
        try:
            data = child.link.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            with contextlib.suppress(KeyError):
                self._selector.unregister(child.link)
            return False
        *lines, child.received = (child.received + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            child.row |= message.get("part", {})
            if "ask" in message:
                child.left, child.ends = (child.ends or 0.0) - time.monotonic(), None
            if "done" in message and self._owner is child:
                self._owner = None
        return True

    def _hand_over(self) -> None:
        """Gives the turn to the first job that waits."""
        asking = [child for child in self._children if child.ends is None]
        if self._owner is None and asking:
            self._owner = asking[0]
            self._owner.ends = time.monotonic() + min(self._owner.left, self._turn)
            with contextlib.suppress(OSError):
                self._owner.link.sendall(b"g")

    def _end(self, child: Child, problem: str) -> dict[str, Any]:
        child.link.setblocking(False)
        while self._receive(child):
            pass  # what it said last
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.link)
        child.link.close()
        self._children.remove(child)
        if self._owner is child:
            self._owner = None
        row = {"name": child.job.name, **_of(child.job), **child.row}
        if problem:
            text = child.output.read_text(encoding="utf-8", errors="replace") if child.output.exists() else ""
            row |= {"failed": problem, "why": text.strip()[-TAIL:]}
        return self._write(row | {"seconds": round(time.monotonic() - child.started, 1)})

    def _write(self, row: dict[str, Any]) -> dict[str, Any]:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(json.dumps(row | ({"why": row["why"][-160:]} if "why" in row else {})), flush=True)
        return row


def _die_with_parent() -> None:
    """Ends with its parent, where the system can: a job must not outlive the process that hands out turns."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _of(job: Job) -> dict[str, Any]:
    """Gives what a line says of the job itself."""
    return {key: value for key, value in asdict(job).items() if key != "seconds" and value not in ("", 0, False)}


def _how(status: int) -> str:
    """Says how a process ended; nothing where that was well."""
    if os.WIFSIGNALED(status):
        return f"killed by signal {os.WTERMSIG(status)}"
    code = os.WEXITSTATUS(status)
    return f"ended with code {code}" if code else ""


def _await(process: int, seconds: float = 5.0) -> None:
    """Waits until a killed process is gone; one that the driver holds on to is left behind."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(ChildProcessError):
            if not os.waitpid(process, os.WNOHANG)[0]:
                time.sleep(0.02)
                continue
        return
