"""What an encoder does to the scheduling of threads is undone; SVT-AV1 does it when root runs it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from torch import nn

from srfast.upscaler import Upscaler
from srfast.video import Encoding, upscale_video
from srfast.video.scheduling import scheduling_kept
from tests.helpers.video.gradients import STEADY, make_clip

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="only Linux lets a process ask")


def policies() -> list[int]:
    """Those of all threads of this process."""
    return [os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")]


def test_this_thread_and_those_that_it_begins() -> None:
    """With a policy that needs no rights; a thread of a third policy keeps it."""
    before, ends, began = os.sched_getscheduler(0), threading.Event(), threading.Barrier(3)
    assert before != os.SCHED_BATCH

    def other(policy: int | None) -> None:
        if policy is not None:
            os.sched_setscheduler(0, policy, os.sched_param(0))
        began.wait()
        ends.wait()

    idle = threading.Thread(target=other, args=(os.SCHED_IDLE,))
    idle.start()
    with scheduling_kept():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        inherits = threading.Thread(target=other, args=(None,))
        inherits.start()
        began.wait()
        assert policies().count(os.SCHED_BATCH) == 2
    assert os.sched_getscheduler(0) == before
    assert os.SCHED_BATCH not in policies() and os.SCHED_IDLE in policies()
    ends.set()
    for thread in (idle, inherits):
        thread.join()


def test_an_av1_run(tmp_path: Path, small_network: nn.Module) -> None:
    source = make_clip(tmp_path / "in.mkv", STEADY)
    before = set(policies())
    upscale_video(source, tmp_path / "out.mkv", Upscaler(small_network), encoding=Encoding("libsvtav1"))
    assert set(policies()) <= before
