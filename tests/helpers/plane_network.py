"""An executable that takes video planes, as GPU backends do, made of the plain torch twins."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from srfast.backends.base import Executable, PlaneExecutable
from srfast.engine import Engine
from srfast.kernels.planes import Planes, load_planes_reference, store_planes_reference
from tests.helpers.late_queues import LateQueues


class PlaneNetwork(PlaneExecutable):
    """The twins around an executable; every result comes in the same memory."""

    def __init__(self, run: Executable, most: int = 1 << 30) -> None:
        super().__init__(replace(run.traits, min_pixels=2000))
        self._run, self._most = run, most
        self.calls: list[tuple[int, ...]] = []
        self.overflow = False
        self._out: dict[tuple[int, ...], Planes] = {}

    def __call__(self, x: Tensor) -> Tensor:
        return self._run(x)

    def run_planes(self, planes: Planes, peak: float, white: float) -> tuple[Planes, Tensor]:
        if planes.luma.numel() > self._most:
            raise torch.OutOfMemoryError("test")
        self.calls.append(tuple(planes.luma.shape))
        y = self._run(load_planes_reference(planes, peak).float())
        key = (y.shape[0], y.shape[2], y.shape[3])
        out = self._out.setdefault(key, Planes.empty(*key, planes.colour, "cpu"))
        out.copy_(store_planes_reference(y, white, planes.colour))
        if self.overflow:
            out.picture.zero_()
        return out, torch.full((1,), int(self.overflow), dtype=torch.int32)


def take_planes(engine: Engine, most: int = 1 << 30, seed: int | None = None) -> PlaneNetwork:
    """Makes an engine on the CPU take planes; with a seed through queues that work late."""
    network = PlaneNetwork(engine._runner.run, most)
    engine._runner.run = network
    if seed is not None:
        engine._runner.queues = LateQueues(seed)
    return network
