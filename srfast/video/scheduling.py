"""The scheduling of threads, which an encoder may change."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def scheduling_kept() -> Iterator[None]:
    """Keep this thread's scheduling, and give it to the threads that begin meanwhile.

    SVT-AV1 (4.1), run by root, gives real-time priority to its threads and to the one that opens it, from which the network's
    threads then have it too: everything else on the machine waits until the video is done.
    """
    if not hasattr(os, "sched_getscheduler"):  # Linux alone has it
        yield
        return
    before = _scheduling(0)
    try:
        yield
    finally:
        changed = _scheduling(0)
        if changed != before:
            for thread in map(int, os.listdir("/proc/self/task")):
                with contextlib.suppress(OSError):  # it has ended
                    if _scheduling(thread) == changed:
                        os.sched_setscheduler(thread, before[0], os.sched_param(before[1]))


def _scheduling(thread: int) -> tuple[int, int]:
    """The policy and the priority of a thread, 0 for the one that asks."""
    return os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority
