"""What the machine can do at most, measured beside everything else: multiply-adds, matrix products, copies."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from benchmarks.sampling import Run
from srfast.backends.cpu import has_bf16

SOURCE = Path(__file__).with_name("fma.c")


@dataclass(frozen=True)
class Limit:
    """One ceiling: ``run`` does ``work`` operations or moves ``work`` bytes."""

    name: str
    unit: str
    work: float
    run: Run


def limits(device: torch.device) -> tuple[list[Limit], dict[str, str]]:
    """The ceilings of a device, and those that cannot be measured with the reason."""
    if device.type == "cuda":
        dtypes = {"float16": torch.float16, "bfloat16": torch.bfloat16}
        return [*(_matmul(name, dtype, 8192, device) for name, dtype in dtypes.items()), _copy(1 << 30, device)], {}
    found = [_matmul("float32", torch.float32, 2048, device), _copy(256 << 20, device)]
    missing = {}
    if has_bf16():
        found.append(_matmul("bfloat16", torch.bfloat16, 4096, device))
    try:
        found.append(_fma())
    except RuntimeError as error:
        missing["FMA rate"] = str(error)
    return found, missing


def _matmul(name: str, dtype: torch.dtype, size: int, device: torch.device) -> Limit:
    """Random values: zeros run faster than real data where power is the limit."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    out = torch.empty(size, size, device=device, dtype=dtype)
    return Limit(f"{name} matrix product", "FLOP/s", 2.0 * size**3, lambda: torch.mm(a, b, out=out))


def _copy(size: int, device: torch.device) -> Limit:
    """Bytes read plus bytes written."""
    source = torch.ones(size // 4, device=device)
    target = torch.zeros(size // 4, device=device)
    return Limit("copy", "B/s", 2.0 * size, lambda: target.copy_(source))


def _fma() -> Limit:
    chains = _compiled()
    threads = torch.get_num_threads()
    steps = 20_000_000
    pool = ThreadPoolExecutor(threads)
    count = [chains(1)]

    def run() -> None:
        list(pool.map(lambda _: chains(steps), range(threads)))

    return Limit("float32 multiply-adds", "FLOP/s", 2.0 * count[0] * steps * threads, run)


@cache
def _compiled() -> Callable[[int], int]:
    """``fma_chains`` for this processor; calls of it run beside each other, as ctypes lets go of the interpreter."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError("no C compiler (cc) is installed")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "fma.so"
        flags = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
        done = subprocess.run([compiler, *flags, str(SOURCE), "-o", str(library)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"cc could not build {SOURCE.name}: {done.stderr.strip()[:300]}")
        function = ctypes.CDLL(str(library)).fma_chains
    function.restype, function.argtypes = ctypes.c_long, [ctypes.c_long, ctypes.POINTER(ctypes.c_float)]
    return lambda steps: int(function(steps, ctypes.byref(ctypes.c_float())))
