"""Launches in a row, replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

Launch = Callable[[], None]


class Sequence:
    """The first run launches (and compiles) one by one, later ones replay a CUDA graph of the launches."""

    def __init__(self, launches: list[Launch], graphs: bool) -> None:
        self._launches, self._graphs = launches, graphs
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm = False

    def run(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        elif self._warm and self._graphs:
            self._capture()
            self.run()
        else:
            self._launch()
            self._warm = True

    def _launch(self) -> None:
        for launch in self._launches:
            launch()

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._launch()
        self._graph = graph
