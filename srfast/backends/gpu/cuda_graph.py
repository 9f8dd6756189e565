"""Launches in a row, replayed as a CUDA graph."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

Launch = Callable[[], None]
# Sees to launches before the first of them: compiles their kernels, say.
Prepare = Callable[[list[Launch]], None]

# One capture at a time in the process: a capture synchronises its device and empties the allocator's cache at its start,
# which would break another one that is under way.
_CAPTURING = threading.Lock()
# Where each device captures. PyTorch's own default is one stream for all devices, on the one that captured first.
_STREAMS: dict[int, Any] = {}


def capture(run: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """Captures what a function launches on the current device, as a graph; ``run`` must have run before.

    Other threads may go on using any GPU meanwhile: only what this thread does can break the capture.
    """
    with _CAPTURING:
        device = torch.cuda.current_device()
        if device not in _STREAMS:
            _STREAMS[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=_STREAMS[device], capture_error_mode="thread_local"):
            run()
    return graph


class Sequence:
    """The first run prepares the launches and launches one by one, later ones replay a CUDA graph of the launches."""

    def __init__(self, launches: list[Launch], graphs: bool, prepare: Prepare = lambda launches: None) -> None:
        self._launches, self._graphs, self._prepare = launches, graphs, prepare
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm = False

    def run(self) -> None:
        """Launch the kernels, by themselves the first time and as a CUDA graph from then on where graphs are wanted."""
        # Not the first time: Triton compiles and libraries allocate on their first launch, neither of which a capture
        # allows.
        if self._graph is None and self._warm and self._graphs:
            self._graph = capture(self._launch)
        if self._graph is not None:
            self._graph.replay()
        else:
            if not self._warm:
                self._prepare(self._launches)
            self._launch()
            self._warm = True

    def _launch(self) -> None:
        for launch in self._launches:
            launch()
