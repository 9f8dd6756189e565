"""Capture of CUDA graphs without a GPU: which stream, which mode, and one at a time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

import pytest
import torch

from srfast.backends.gpu import cuda_graph
from srfast.backends.gpu.cuda_graph import Sequence, capture


@dataclass
class FakeStream:
    device: int


@dataclass
class Driver:
    """What CUDA would be asked for; ``local.device`` is a thread's current device."""

    local: threading.local = field(default_factory=threading.local)
    captures: list[tuple[int, FakeStream, str]] = field(default_factory=list)
    open: int = 0
    replays: int = 0
    overlapped: bool = False

    def current(self) -> int:
        return int(getattr(self.local, "device", 0))


class FakeGraph:
    driver: Driver

    def replay(self) -> None:
        self.driver.replays += 1


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Stands in for ``torch.cuda``; like it, without ``stream`` it captures where the first capture was."""
    made = Driver()
    default: list[FakeStream] = []

    class Capturing:
        def __init__(
            self, graph: FakeGraph, stream: FakeStream | None = None, capture_error_mode: str = "global"
        ) -> None:
            if not default:
                default.append(FakeStream(made.current()))
            self._stream, self._mode = stream or default[0], capture_error_mode

        def __enter__(self) -> None:
            made.overlapped |= made.open > 0
            made.open += 1
            made.captures.append((made.current(), self._stream, self._mode))

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            made.open -= 1

    FakeGraph.driver = made
    monkeypatch.setattr(cuda_graph, "_STREAMS", {})
    monkeypatch.setattr(torch.cuda, "current_device", made.current)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", Capturing)
    return made


def test_each_device_captures_on_a_stream_of_its_own(driver: Driver) -> None:
    for device in (0, 1, 0, 2, 1):
        driver.local.device = device
        capture(lambda: None)
    assert [stream.device for _, stream, _ in driver.captures] == [device for device, _, _ in driver.captures]
    assert len({id(stream) for _, stream, _ in driver.captures}) == 3


def test_other_threads_do_not_break_a_capture(driver: Driver) -> None:
    capture(lambda: None)
    assert [mode for _, _, mode in driver.captures] == ["thread_local"]


def test_one_capture_at_a_time(driver: Driver) -> None:
    threads = [threading.Thread(target=capture, args=(lambda: time.sleep(0.02),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(driver.captures) == 4
    assert not driver.overlapped


def test_a_failed_capture_lets_others_in(driver: Driver) -> None:
    def failing() -> None:
        raise torch.OutOfMemoryError("test")

    with pytest.raises(torch.OutOfMemoryError):
        capture(failing)
    capture(lambda: None)


def test_sequence_launches_then_captures_then_replays(driver: Driver) -> None:
    launched: list[int] = []
    sequence = Sequence([lambda: launched.append(0), lambda: launched.append(1)], graphs=True)
    for _ in range(3):
        sequence.run()
    assert launched == [0, 1, 0, 1]  # once for real, once into the graph
    assert driver.replays == 2
    plain = Sequence([lambda: launched.append(2)], graphs=False)
    for _ in range(3):
        plain.run()
    assert launched[4:] == [2, 2, 2]
    assert len(driver.captures) == 1
