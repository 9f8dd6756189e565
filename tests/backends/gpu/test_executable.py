"""Callers on several streams share a plan's memory: who waits for whom, without a GPU."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from srfast.backends.gpu.executable import GpuExecutable
from srfast.plan import Plan

DEVICE = torch.device("cuda", 0)


@dataclass(eq=False)
class FakeStream:
    """Counts what it was given, and knows how far each other stream it came after."""

    name: str
    given: int = 0
    after: dict[str, int] = field(default_factory=dict)

    def wait_stream(self, other: FakeStream) -> None:
        self.after = {**self.after, **other.after, other.name: other.given}
        self.given += 1


class Executable(GpuExecutable):
    """Runs nothing: a call for a size gives its stream one piece of work."""

    def __init__(self, streams: SimpleNamespace) -> None:
        super().__init__(Plan((), "x", "x", 3), DEVICE, self._fake, graphs=False)
        self._streams = streams

    def _fake(self, size: tuple[int, int, int]) -> Any:
        canvas = SimpleNamespace(images=1, height=size[1], width=size[2], data=SimpleNamespace(device=DEVICE))
        return SimpleNamespace(source=canvas)

    def run(self, height: int) -> None:
        with self._on_device():
            self._ready((1, height, 8))
            self._streams.current.given += 1


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(a=FakeStream("a"), b=FakeStream("b"))
    made.current = made.a
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: made.current)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    return made


def test_one_stream_waits_for_nothing(streams: SimpleNamespace) -> None:
    run = Executable(streams)
    for height in (8, 8, 16, 24):
        run.run(height)
    assert streams.a.given == 4


def test_a_stream_comes_after_the_one_that_used_the_memory_before(streams: SimpleNamespace) -> None:
    """Also after what that caller did with the result since, as copying it."""
    run = Executable(streams)
    run.run(8)
    streams.a.given += 5
    streams.current = streams.b
    run.run(8)
    assert streams.b.after["a"] == 6


def test_memory_goes_back_to_its_stream_when_others_are_done(streams: SimpleNamespace) -> None:
    """Whether dropped for another size, or with the executable."""
    run = Executable(streams)
    run.run(8)
    streams.current = streams.b
    run.run(8)
    assert streams.a.after["b"] == streams.b.given
    run.run(16)
    run.run(8)
    run.run(16)
    streams.b.given += 3  # copies the result
    copied = streams.b.given
    run.run(24)  # the first size is dropped; its memory is a's
    assert streams.a.after["b"] >= copied


def test_a_failed_call_is_waited_for_too(streams: SimpleNamespace) -> None:
    run = Executable(streams)
    run.run(8)
    streams.current = streams.b

    def failing(size: tuple[int, int, int]) -> Any:
        streams.b.given += 1
        raise torch.OutOfMemoryError("test")

    run._make = failing  # type: ignore[method-assign]
    with pytest.raises(torch.OutOfMemoryError):
        run.run(16)
    streams.current = streams.a
    run._make = run._fake  # type: ignore[method-assign]
    run.run(8)
    assert streams.a.after["b"] == 2
