"""The compile gate reads machine code rightly, and the hot convolution passes it (CI runs the gate itself)."""

import os
import re
import subprocess
import sys

import pytest

from srfast.kernels.tools.compile_gate import faults
from srfast.kernels.tools.offline import Compiled, offline

GOOD = "\t HGMMA.64x128x16.F32 R24\n\t LDGSTS.E.128 [R1]\n"


def compiled(sass: str, arch: int = 90, shared: int = 1000) -> Compiled:
    kernel = Compiled(arch, "kernel", b"", shared)
    kernel.__dict__["sass"] = sass
    return kernel


@pytest.mark.parametrize(
    ("kernel", "found"),
    [
        (compiled(GOOD), ""),
        (compiled(GOOD + "\t STL [R1], R2\n\t LDL.64 R2, [R1]\n"), r"spills registers \(2 moves\)"),
        (compiled(GOOD, shared=300_000), "300000 bytes of shared memory of 232448"),
        (compiled(GOOD.replace("LDGSTS", "LDG")), "no asynchronous copies"),
        (compiled(GOOD.replace("HGMMA", "HMMA")), "no HGMMA"),
        (compiled(GOOD.replace("HGMMA", "UTCHMMA"), arch=100), ""),
        (compiled(GOOD, arch=80), "no HMMA"),
        (compiled(GOOD + "\t LDSM.16.M88.4 R4\n"), "through registers"),
    ],
)
def test_faults(kernel: Compiled, found: str) -> None:
    text = "; ".join(faults(kernel, True, True))
    assert text == "" if not found else re.search(found, text)


def test_the_quick_set() -> None:
    """The hot kernels on every architecture, everything on one of each generation; ``full`` is everything everywhere."""
    code = (
        "from srfast.kernels.tools import compile_gate as gate\n"
        "every = list(gate.SHARED_LIMIT)\n"
        "quick, full = gate.selected(every, False), gate.selected(every, True)\n"
        "assert set(quick) < set(full)\n"
        "assert len(full) == sum(len(gate.cases(arch)) for arch in every)\n"
        "for arch in every:\n"
        "    hot = {(arch, i) for i, case in enumerate(gate.cases(arch)) if case.hot}\n"
        "    assert len(hot) >= 4 and hot <= set(quick)\n"
    )
    run_without_interpreter(code)


def test_interpreter_cannot_compile() -> None:
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("the interpreter is off on machines with a GPU")
    with pytest.raises(RuntimeError, match="unset it"), offline(90):
        pass


def test_the_hot_convolutions_pass() -> None:
    """In a process of its own: this one may have chosen the interpreter."""
    code = (
        "from srfast.kernels.tools import compile_gate as gate\n"
        "indices = [i for i, case in enumerate(gate.cases(90)) if case.quick][::2]\n"
        "results = [gate.check((90, i)) for i in indices]\n"
        "assert len(results) == 3 and all(r.lines and r.digests and not r.faults for r in results), results\n"
    )
    run_without_interpreter(code)


def run_without_interpreter(code: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
