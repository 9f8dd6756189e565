"""Compiles and "launches" Triton kernels for a GPU that is not there, and reads what the compiler made of them.

A stand-in for Triton's driver names the target and launches nothing, so the code that launches for real also decides
what gets compiled: the same specialisations, the same constants.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver


@dataclass(frozen=True)
class Compiled:
    """One kernel as compiled for compute capability ``arch``; ``shared`` in bytes."""

    arch: int
    name: str
    cubin: bytes
    shared: int

    @cached_property
    def usage(self) -> dict[str, int]:
        """REG, STACK and LOCAL of a thread."""
        return {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", self._dump("-res-usage"))}

    @cached_property
    def sass(self) -> str:
        return self._dump("-sass")

    def count(self, instruction: str) -> int:
        """Occurrences of an instruction in the machine code; a regular expression of its name's beginning."""
        return len(re.findall(rf"\s{instruction}", self.sass))

    @property
    def digest(self) -> str:
        """Return 16 hexadecimal digits that stand for the machine code.

        Addresses, encodings and the places of the parameters in the constant bank do not count: a kernel whose
        parameters are only named or ordered in another way keeps its digest.
        """
        lines = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(\S.*?;)", self.sass, re.MULTILINE)
        text = re.sub(r"c\[0x0\]\[[^\]]*\]", "c[0x0]", "\n".join(lines))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def spills(self) -> int:
        """Instructions that move registers to or from local memory."""
        return self.count(r"STL\b") + self.count(r"LDL\b")

    def _dump(self, option: str) -> str:
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.cubin)
            file.flush()
            return subprocess.run([str(tool), option, file.name], capture_output=True, text=True, check=True).stdout


class OfflineDriver:
    """What Triton's runtime asks of a driver, answered for an absent GPU."""

    def __init__(self, arch: int) -> None:
        self.arch = arch
        self.loaded: list[Compiled] = []
        # The real limit is checked by whoever reads the list.
        properties = {"max_shared_mem": 1 << 30, "multiprocessor_count": 132, "warpSize": 32}
        self.utils = SimpleNamespace(
            get_device_properties=lambda device: properties,
            load_binary=self._load,
            unload_module=lambda module: None,
        )

    def _load(self, name: str, cubin: bytes, shared: int, device: int) -> tuple[None, int, int, int, int]:
        self.loaded.append(Compiled(self.arch, name, cubin, shared))
        return None, 0, 0, 0, 1024

    def get_current_target(self) -> GPUTarget:
        """Return the architecture that is compiled for, as Triton asks its driver."""
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        """Return a device's number, another for each architecture."""
        # Triton caches by device number: one for each architecture.
        return self.arch

    def get_current_stream(self, device: int) -> int:
        """Return the default stream; nothing is launched on it."""
        return 0

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        """Return a launch that does nothing."""
        return lambda *args, **kwargs: None


@contextmanager
def offline(arch: int) -> Iterator[list[Compiled]]:
    """Inside, launches on CPU tensors only compile for ``arch``; the list fills with what a launch needed first.

    Raises:
        RuntimeError: TRITON_INTERPRET=1, under which nothing is compiled.
    """
    if triton.knobs.runtime.interpret:
        raise RuntimeError("kernels cannot be compiled under TRITON_INTERPRET=1; unset it")
    stand_in, before = OfflineDriver(arch), dict(vars(driver))  # of whatever names this Triton keeps it under
    driver.set_active(stand_in)
    try:
        yield stand_in.loaded
    finally:
        vars(driver).update(before)
