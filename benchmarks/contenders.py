"""Every way to run a module on one image, each named by exactly what it is: eager PyTorch, torch.compile, srfast."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.sampling import Run
from srfast._one_thread import take
from srfast.backends import Backend, default_dtype, select_backend
from srfast.backends.cpu import has_bf16
from srfast.backends.cuda import CudaBackend, TrunkBackend
from srfast.backends.gpu import cuda_graph
from srfast.backends.mixed import MixedBackend
from srfast.backends.reference import ReferenceBackend
from srfast.backends.triton import GluonBackend, TritonBackend
from srfast.capture import capture
from srfast.kernels.cuda import config as cuda_config
from srfast.models.bordered import with_border
from srfast.plan.passes import optimise

OURS = "srfast"
OURS_BF16 = "srfast bf16"  # on CPUs whose default is float32
EAGER = "eager fp32 NCHW"


@dataclass(frozen=True)
class Contender:
    """A way to run a module.

    Attributes:
        name: exactly what it is.
        build: module and image -> a function that runs it and returns its result; raises peers.MissingError.
        tolerance: largest difference from eager float32 allowed, as a fraction of the largest value.
        images: how many images one call of the function runs.
    """

    name: str
    build: Callable[[nn.Module, Tensor], Run]
    tolerance: float = 1e-3
    images: int = 1


def contenders(device: torch.device) -> list[Contender]:
    """All for a device, srfast first and eager float32 second; whether each can run shows when it is built."""
    ours = default_dtype(device)
    tolerance = 1e-3 if ours == torch.float32 else 5e-2
    found = [
        Contender(OURS, srfast_run, tolerance),
        Contender(EAGER, partial(eager_run, dtype=torch.float32, last=False)),
        Contender("eager fp32 channels-last", partial(eager_run, dtype=torch.float32, last=True)),
    ]
    halves = [("fp16", torch.float16)] if device.type == "cuda" else []
    if device.type == "cuda" or has_bf16():
        # Elsewhere PyTorch emulates bfloat16 on one core: a trial image would take minutes.
        halves.append(("bf16", torch.bfloat16))
    if device.type == "cpu" and halves:
        found.append(Contender(OURS_BF16, partial(srfast_run, dtype=torch.bfloat16), 5e-2))
    for name, dtype in halves:
        found.append(Contender(f"eager {name} NCHW", partial(eager_run, dtype=dtype, last=False), 5e-2))
        found.append(Contender(f"eager {name} channels-last", partial(eager_run, dtype=dtype, last=True), 5e-2))
    return found + (_cuda_contenders() if device.type == "cuda" else _cpu_contenders())


def _cpu_contenders() -> list[Contender]:
    found = [
        Contender(f"torch.compile fp32 {mode}, freezing", partial(compiled_run, mode=mode, dtype=torch.float32))
        for mode in ("default", "max-autotune")
    ]
    found += [
        Contender("OpenVINO f32, latency", partial(peers.openvino_run, precision="f32", hint="LATENCY")),
        Contender(
            f"OpenVINO f32, throughput ({peers.STREAMS} at once)",
            partial(peers.openvino_run, precision="f32", hint="THROUGHPUT"),
            images=peers.STREAMS,
        ),
    ]
    if has_bf16():
        found.append(
            Contender("OpenVINO bf16, latency", partial(peers.openvino_run, precision="bf16", hint="LATENCY"), 5e-2)
        )
    return [*found, Contender("ONNX Runtime fp32", peers.onnxruntime_run), Contender("ncnn fp32", peers.ncnn_run)]


def _cuda_contenders() -> list[Contender]:
    half: dict[str, Any] = {"dtype": torch.float16}
    named = [Contender(f"{OURS} {name}", partial(backend_run, backend=name), 5e-2) for name in _NAMED]
    return [
        *named,
        Contender("eager fp16 channels-last, CUDA graph", partial(graphed_run, **half), 5e-2),
        Contender("torch.compile fp16 default, freezing", partial(compiled_run, mode="default", **half), 5e-2),
        Contender(
            "torch.compile fp16 max-autotune, freezing", partial(compiled_run, mode="max-autotune", **half), 5e-2
        ),
        Contender("cuDNN fused fp16", peers.cudnn_fused_run, 5e-2),
        Contender("TensorRT fp16", peers.tensorrt_run, 5e-2),
    ]


def srfast_run(module: nn.Module, x: Tensor, *, dtype: torch.dtype | None = None) -> Run:
    """The plan through the backend that srfast chooses, by default in the dtype it chooses for 8-bit images, as tensors."""
    plan = optimise(capture(module, x.shape[1]))
    dtype = dtype or default_dtype(x.device, plan)
    run = select_backend(plan, x.device, dtype).compile(plan, x.device, dtype)
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    if not plan.border:
        return lambda: run(x)
    # The others have the border inside of the module, and make it at every call.
    first, (rows, columns) = plan.scale * plan.border, (plan.scale * side for side in x.shape[2:])

    def whole() -> Tensor:
        y = run(with_border(x, plan.border, plan.alignment, take=take))
        return y[:, :, first : first + rows, first : first + columns]

    return whole


# What 'cuda' and 'mixed' run in which kernel where no measurement says what is best.
_CUDA = {
    "default": {
        "conv 3x3 64->64": {"kernel": "wgmma_held", "speedup": 2.0},
        "conv 3x3 64->256": {"kernel": "wgmma_held", "speedup": 2.0},
        "conv": {"kernel": "mma", "speedup": 2.0},
        "pair 3x3 64->256, 5x5 ->12": {"kernel": "tail_wgmma", "speedup": 2.0},
    }
}
# Backend, and configurations that are taken unless the variable names others already.
_NAMED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "triton": ("triton", "", {}),
    "gluon": ("gluon", "", {}),
    "cuda": ("cuda", cuda_config.VARIABLE, _CUDA),
    "mixed": ("mixed", cuda_config.VARIABLE, _CUDA),
    "trunk": ("trunk", cuda_config.VARIABLE, _CUDA),
}


def backend_run(module: nn.Module, x: Tensor, *, backend: str, graphs: bool = True) -> Run:
    """The plan through one backend: 'triton', 'gluon' (Triton with Gluon's convolution), 'cuda', 'mixed' or 'trunk'.

    Without ``graphs`` kernel by kernel, for callers that capture a graph of their own.

    Raises:
        MissingError: the backend cannot run the plan here.
    """
    name, variable, given = _NAMED[backend]
    plan, dtype = optimise(capture(module, x.shape[1])), torch.float16
    interpret = x.device.type == "cpu"  # in a rehearsal
    makers: dict[str, Callable[[], Backend]] = {
        "triton": lambda: TritonBackend(interpret, graphs),
        "gluon": lambda: GluonBackend(interpret, graphs),
        "cuda": lambda: CudaBackend(graphs),
        "mixed": lambda: MixedBackend(interpret, graphs),
        "trunk": lambda: TrunkBackend(graphs),
    }
    made = makers[name]()
    with _configured(variable, given):
        reasons = made.not_supported_reasons(plan, x.device, dtype)
        if reasons:
            raise peers.MissingError(f"{backend}: {'; '.join(reasons)}")
        run = made.compile(plan, x.device, dtype)
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    return lambda: run(x)


@contextmanager
def _configured(variable: str, table: dict[str, Any]) -> Iterator[None]:
    """The environment variable names a file with the table, unless it is set already or is none."""
    if not variable or os.environ.get(variable):
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "configs.json"
        path.write_text(json.dumps(table), encoding="utf-8")
        os.environ[variable] = str(path)
        try:
            yield
        finally:
            del os.environ[variable]


def reference_run(module: nn.Module, x: Tensor) -> Run:
    """The optimised plan in plain torch: what folding and rewriting alone gain."""
    run = ReferenceBackend().compile(optimise(capture(module, x.shape[1])), x.device, torch.float32)
    return lambda: run(x)


def eager_run(module: nn.Module, x: Tensor, *, dtype: torch.dtype, last: bool) -> Run:
    """Plain PyTorch; on a GPU cuDNN measures its algorithms first (cudnn.benchmark) and float32 is not TF32."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    form = torch.channels_last if last else torch.contiguous_format
    module = copy.deepcopy(module).to(x.device, dtype).to(memory_format=form)  # type: ignore[call-overload]
    x = x.to(dtype).contiguous(memory_format=form)
    return lambda: module(x)


def graphed_run(module: nn.Module, x: Tensor, *, dtype: torch.dtype) -> Run:
    """Eager PyTorch, channels last, replayed from a CUDA graph."""
    run = eager_run(module, x, dtype=dtype, last=True)
    for _ in range(3):
        run()
    out: list[Any] = []
    graph = cuda_graph.capture(lambda: out.append(run()))

    def replay() -> Any:
        graph.replay()
        return out[0]

    return replay


def compiled_run(module: nn.Module, x: Tensor, *, mode: str, dtype: torch.dtype) -> Run:
    """torch.compile with freezing (weights are constants, batch normalisation folded), channels last."""
    from torch._inductor import config

    # Several compiled copies of one network live side by side: none may fall back to eager in silence.
    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    module = copy.deepcopy(module).to(x.device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    compiled = torch.compile(module, mode=mode)
    with config.patch(freezing=True):  # type: ignore[no-untyped-call]
        try:
            compiled(x)
        except Exception as error:
            raise peers.MissingError(f"torch.compile failed: {str(error)[:200]}") from error
    return lambda: compiled(x)
