"""A Triton kernel with its arguments, to be launched again and again, and many of them compiled side by side."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import triton

from srfast.errors import BackendError, escaped
from srfast.kernels.params import INTERPRETED

# Seconds until a line says that kernels are being compiled, and between such lines. A warm cache needs less than one.
_PATIENCE = 2.0
# Room that is left for the compiler and ptxas of one kernel, in bytes: an estimate, as nobody has measured the largest one.
_MEMORY = 700 << 20

progress = logging.getLogger("srfast.compiling")


class KernelLaunch:
    """A launch, all of it decided beforehand: calling it launches, ``compile`` only sees to the machine code.

    Args:
        kernel: a function that Triton or Gluon compiles.
        grid: programs along each axis.
        arguments: of the kernel, in order.
        options: of the compiler, such as ``num_warps``.
    """

    def __init__(self, kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        self._kernel, self._grid, self._arguments = kernel, grid, arguments
        # A multiplication and an addition stay two roundings: a kernel computes the same wherever it is fused, and
        # contracting gains nothing where the time goes into matrix instructions or memory.
        self._options = {"enable_fp_fusion": False, **options}

    def __call__(self) -> None:
        self._kernel[self._grid](*self._arguments, **self._options)

    def compile(self) -> None:
        """Compile the kernel for the current device without launching it."""
        if not INTERPRETED:
            self._kernel.warmup(*self._arguments, grid=self._grid, **self._options)


class InTurn:
    """Launches one after another, as one."""

    def __init__(self, *launches: KernelLaunch) -> None:
        self._launches = launches

    def __call__(self) -> None:
        for launch in self._launches:
            launch()

    def compile(self) -> None:
        """Compile all kernels."""
        for launch in self._launches:
            launch.compile()


def compile_all(launches: Iterable[Callable[[], None]]) -> None:
    """Compile the kernels of launches side by side, so that the first run need not wait for one after another.

    What Triton's cache on the disk holds is only read. A kernel that several launches share is compiled once. Lines of
    the logger ``srfast.compiling`` tell how far it is, once it takes long. Triton 3.5 and later compile in threads: most of
    the time goes into LLVM and into ptxas, a process of its own, and both let other threads run.

    Args:
        launches: those that are not ``KernelLaunch`` or ``InTurn`` are compiled already and passed over.

    Raises:
        BackendError: a kernel cannot be compiled, alone either.
    """
    if INTERPRETED:
        return
    wanted = [launch for launch in launches if isinstance(launch, (KernelLaunch, InTurn))]
    if not wanted:
        return
    make_cache_writable()
    if hasattr(triton, "AsyncCompileMode"):
        _compile_in_threads(wanted)
    # What failed among others may succeed alone: it has all of the memory then. The rest is found compiled.
    for launch in wanted:
        _compile_alone(launch)


def _compile_in_threads(launches: list[KernelLaunch | InTurn]) -> None:
    start = time.monotonic()
    with _Threads(_threads()) as threads, triton.AsyncCompileMode(threads, ignore_errors=True):
        try:
            for launch in launches:
                launch.compile()
            while wait(threads.futures, timeout=_PATIENCE).not_done:
                done, seconds = sum(f.done() for f in threads.futures), time.monotonic() - start
                progress.info(
                    "compiled %d of %d GPU kernels in %.0f s; the next start finds them compiled",
                    done,
                    len(threads.futures),
                    seconds,
                )
        except BaseException:
            # An interrupt waits for the kernels at hand only.
            for future in threads.futures:
                future.cancel()
            raise


class _Threads(ThreadPoolExecutor):
    """Threads that remember what they were given."""

    def __init__(self, count: int) -> None:
        super().__init__(count, thread_name_prefix="srfast-compile")
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self.futures.append(future)
        return future


def _threads() -> int:
    """One for each core that this process may use, but no more than the free memory has room for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return cores
    return max(1, min(cores, free // _MEMORY))


def _compile_alone(launch: KernelLaunch | InTurn) -> None:
    try:
        launch.compile()
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            # The disk filled up, or somebody took the folder away, since it was looked at.
            keep_cache_elsewhere(error)
            launch.compile()
            return
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BackendError(
            f"Triton could not compile a kernel for this GPU: {type(error).__name__}: {escaped(first)}",
            "if memory ran out, free some and start again: what is compiled so far is kept;",
            "the backend 'reference' needs no compiler",
        ) from error


def make_cache_writable() -> None:
    """See to a folder where Triton can keep what it compiles: a temporary one where its own cannot be written."""
    folder = triton.knobs.cache.dir
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        keep_cache_elsewhere(error)


def keep_cache_elsewhere(reason: OSError) -> None:
    """Let Triton keep what it compiles in a temporary folder for as long as this process runs, and say so once."""
    folder = tempfile.TemporaryDirectory(prefix="srfast-triton-")
    atexit.register(folder.cleanup)
    progress.warning(
        "Triton cannot keep compiled kernels in %s: %s; every start compiles them again; "
        "let TRITON_CACHE_DIR name a folder that can be written",
        triton.knobs.cache.dir,
        reason.strerror or reason,
    )
    triton.knobs.cache.dir = folder.name
