"""What each technique gains, one added to the ones before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from benchmarks.contenders import Contender, eager_run, reference_run
from benchmarks.sampling import Run
from benchmarks.session import Session
from benchmarks.subjects import SRRESNET_X4
from srfast.backends import Backend
from srfast.backends.cpu import CpuBackend
from srfast.backends.triton import TritonBackend
from srfast.capture import capture
from srfast.plan.passes import optimise

SIZES = {"cpu": (240, 136), "cuda": (480, 270)}


def planned(backend: Backend, dtype: torch.dtype) -> Callable[[nn.Module, Tensor], Run]:
    """The optimised plan through one backend."""

    def build(module: nn.Module, x: Tensor) -> Run:
        run = backend.compile(optimise(capture(module)), x.device, dtype)
        image = x.to(dtype).contiguous(memory_format=torch.channels_last)
        return lambda: run(image)

    return build


def steps(device: torch.device) -> list[Contender]:
    """Last first, as the last is what users get."""
    if device.type == "cuda":
        half = torch.float16
        return [
            Contender("+ CUDA graph", planned(TritonBackend(), half), 5e-2),
            Contender("+ fused kernels (Triton)", planned(TritonBackend(graphs=False), half), 5e-2),
            Contender("+ float16, channels last", partial(eager_run, dtype=half, last=True), 5e-2),
            Contender("eager fp32 NCHW", partial(eager_run, dtype=torch.float32, last=False)),
        ]
    single = torch.float32
    return [
        Contender("+ Winograd transform", planned(CpuBackend(), single)),
        Contender("+ own kernels, depth first", planned(CpuBackend(winograd=False), single)),
        Contender("+ fused, packed (oneDNN)", planned(CpuBackend(path="onednn"), single)),
        Contender("+ folded plan, sub-pixel tail", reference_run),
        Contender("eager fp32 NCHW", partial(eager_run, dtype=single, last=False)),
    ]


def test_waterfall(bench: Session, benchmark: BenchmarkFixture) -> None:
    bench.compare("waterfall", SRRESNET_X4, SIZES[bench.device.type], steps(bench.device), benchmark.pedantic)
