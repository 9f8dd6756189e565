"""The gate reads machine code rightly, and the compiled module passes it where nvcc could build one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from srfast.kernels import cuda
from srfast.kernels.tools.cuda_gate import Kernel, architectures, check, faults, main

NAME = "_ZN6srfast8conv_mmaINS_4HalfENS_8MmaShapeILi64ELi64EEEEEvNS_10ConvParamsE"
ENDING = "_ZN6srfast9conv_heldINS_4HalfELNS_6EndingE3EEEvNS_10HeldParamsE"
TILE_ENDING = "_ZN6srfast8conv_mmaINS_4HalfENS_8MmaShapeILi64ELi64EEELNS_6EndingE3EEEvNS_10ConvParamsE"
GOOD = "\t HMMA.16816.F32 R24\n\t LDSM.16.M88.4 R4\n\t LDGSTS.E.BYPASS.128 [R1]\n\t STG.E.128 [R2]\n"


def kernel(sass: str = GOOD, name: str = NAME, registers: int = 168, stack: int = 0, arch: str = "80") -> Kernel:
    return Kernel(arch, name, {"REG": registers, "STACK": stack, "LOCAL": 0}, sass)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (kernel(), ""),
        (kernel(GOOD + "\t STL [R1], R2\n"), r"local memory \(1 moves"),
        (kernel(stack=8), "8 bytes of stack"),
        (kernel(GOOD.replace("HMMA", "FFMA")), "no HMMA"),
        (kernel(GOOD.replace("STG.E.128", "STG.E")), "no STG"),
        (kernel(GOOD.replace(".BYPASS.128", "")), "no LDGSTS"),
        (kernel(name=NAME.replace("8conv_mma", "10conv_wgmma")), "no HGMMA"),
        (kernel(GOOD + "\t HGMMA.64x64x16.F32 R24\n" * 7 + "\t WARPGROUP.DEPBAR.LE gsb0, 0x0\n" * 2), "2 times for 7"),
        (kernel(name=NAME.replace("8conv_mma", "9conv_int8")), r"no IGMMA.*no STG.*\\.64"),
        (
            kernel(GOOD + "\t IGMMA.64x64x32.S8.U8 R24\n" * 7 + "\t WARPGROUP.DEPBAR.LE gsb0, 0x0\n" * 2),
            "2 times for 7",
        ),
        (kernel(GOOD.replace("LDSM", "LDS"), name=ENDING, arch="90a"), "no HGMMA.*no STSM.*no LDSM"),
        (kernel(name=TILE_ENDING), ""),
        (kernel(name=TILE_ENDING, arch="90a"), "^has no STSM instructions$"),
        (kernel(name="_Z5otherv"), "no known family"),
        (kernel(registers=600), "needs 600 registers"),
    ],
)
def test_faults(given: Kernel, found: str) -> None:
    text = "; ".join(faults(given))
    assert text == "" if not found else re.search(found, text)


def test_nothing_to_check(capsys: pytest.CaptureFixture[str]) -> None:
    before = cuda.use_module(None)
    try:
        assert main([]) == 0
    finally:
        cuda.use_module(before)
    assert "nothing to look at" in capsys.readouterr().out


def test_architectures_are_those_in_the_module() -> None:
    if cuda.unavailable_reason():
        pytest.skip(f"nothing to check: {cuda.unavailable_reason()}")
    assert architectures(Path(cuda.compiled.__file__)) == sorted(cuda.architectures())


@pytest.mark.parametrize("arch", ["80", "90a"])
def test_the_compiled_module_passes(arch: str) -> None:
    """All architectures: ``python -m srfast.kernels.tools.cuda_gate``."""
    if cuda.unavailable_reason():
        pytest.skip(f"nothing to check: {cuda.unavailable_reason()}")
    if arch not in cuda.architectures():
        pytest.skip(f"the module was built without sm_{arch}")
    lines, bad = check(Path(cuda.compiled.__file__), arch)
    assert lines
    assert bad == []
