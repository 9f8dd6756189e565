"""Lists what a table measures: kernels and networks, most valuable first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

MAIN, LARGE = (480, 270), (960, 540)
# In a rehearsal.
TINY = (3, 2)
TRITON_OTHERS = ("64->256", "256->12", "9x9 3->64", "64->48")
BACKENDS = ("eager", "triton", "gluon", "cuda", "mixed", "trunk")
# What fused kernels are measured against.
APART = ("two launches", "separate launches")
# Ways to cut the convolution of 64 channels up in Triton and Gluon; "shipped" is looked up.
TRITON: dict[str, dict[str, Any]] = {
    "shipped": {},
    "gluon": {"swap": True, "gluon": True},
    "gluon 16 rows": {"swap": True, "gluon": True, "rows": 16},  # beside those of full waves, to try that model
    "16x16 8 warps": {"tile_h": 16, "tile_w": 16, "warps": 8, "swap": True},
    "4x32": {"tile_h": 4, "tile_w": 32, "swap": True},
    "8x16 4 stages": {"stages": 4, "swap": True},
}


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        kind: a function of ``benchmarks.gpu.job``.
        what: the kernel, form, configuration or backend.
        shape: of ``SHAPES``, or a network's name.
        width, height: of the network's input; 0 where the kind has none.
        residual: with a residual.
        seconds: of its own, after which it is taken to hang.
    """

    kind: str
    what: str = ""
    shape: str = "64->64"
    width: int = 0
    height: int = 0
    residual: bool = False
    seconds: float = 40

    @property
    def name(self) -> str:
        """Names the job, for people and for ``--only``."""
        size = f"{self.width}x{self.height}" if self.width else ""
        shape = self.shape if self.kind in ("conv", "triton", "net", "library") else ""
        return " ".join(filter(None, (self.kind, shape, self.what, "+residual" if self.residual else "", size)))


def jobs() -> list[Job]:
    """Lists all jobs, most valuable first: the convolution that networks consist of, whole networks, and the rest."""
    # Only here, for Triton reads TRITON_INTERPRET, which a rehearsal sets, when it is imported.
    from srfast.kernels.cuda.hopper import FORMS as HOPPER
    from srfast.kernels.cuda.pair import FORMS as PAIRS
    from srfast.kernels.cuda.tail import FORMS as TAILS
    from srfast.kernels.triton.config import Config

    known = {field.name for field in fields(Config)}
    ways = [name for name, given in TRITON.items() if set(given) <= known]
    gluons = [name for name in ways if name.startswith("gluon")]

    def at(size: tuple[int, int], kind: str, what: str, **more: Any) -> Job:
        return Job(kind, what, **{"width": size[0], "height": size[1], **more})

    def hot(size: tuple[int, int], residual: bool) -> list[Job]:
        """Lists the convolution of 64 channels: all of Hopper's forms (also what they read differently), Gluon, Triton."""
        found = [at(size, "conv", form, residual=residual) for form in HOPPER]
        return [*found, *(at(size, "triton", way, residual=residual) for way in (*gluons, "shipped"))]

    def nets(name: str, size: tuple[int, int], backends: Iterable[str] = BACKENDS) -> list[Job]:
        return [at(size, "net", backend, shape=name, seconds=100) for backend in backends]

    found = [Job("device", seconds=60), *hot(MAIN, False), at(MAIN, "library", ""), *nets("SRResNet x4", MAIN)]
    found += [*hot(LARGE, False), *(at(MAIN, "tail", form) for form in (*reversed(TAILS), "two launches"))]
    found += [*hot(MAIN, True), *(at(MAIN, "pair", form) for form in (*reversed(PAIRS), "two launches"))]
    found += nets("Compact x4", MAIN)
    found += [at(MAIN, "trunk", what) for what in ("trunk_wgmma", "separate launches", "two strips a block")]
    found += [at(MAIN, "int8", "conv_int8", residual=residual) for residual in (False, True)]
    found += [Job("matrix"), Job("memory"), at(MAIN, "launches", "")]
    found += [
        at(MAIN, kind, what, shape=s) for s in TRITON_OTHERS for kind, what in (("conv", "mma"), ("triton", "shipped"))
    ]
    found += [at(MAIN, "conv", "wgmma_held", shape="64->256"), *hot(LARGE, True), at(LARGE, "library", "")]
    found += nets("SRResNet x4", LARGE, BACKENDS[1:])
    found += [at(LARGE, "trunk", what) for what in ("trunk_wgmma", "separate launches")]
    found += [at(MAIN, "conv", form) for form in ("mma", "mma_large")]
    found += [at(MAIN, "triton", way) for way in ways if way not in (*gluons, "shipped")]
    return found


def rehearsed(given: Sequence[Job]) -> list[Job]:
    """Makes jobs tiny, one size of each."""
    found: dict[str, Job] = {}
    for job in given:
        small = replace(job, width=TINY[0], height=TINY[1], seconds=600) if job.width else replace(job, seconds=600)
        found.setdefault(small.name, small)
    return list(found.values())
