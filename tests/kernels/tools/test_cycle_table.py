"""The table of endings walks every kernel, and special endings cost less than the general one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from srfast.kernels import cuda
from srfast.kernels.tools.cuda_gate import Kernel
from srfast.kernels.tools.cycle_table import general_of, main, older, paths, table, walks
from srfast.kernels.tools.sass_cycles import Walk

SHAPE = "NS_8MmaShapeILi64ELi64ELi3ELi8ELi16ELi2ELi2EEE"


def walk_of(cycles: int) -> Walk:
    return Walk(cycles, Counter({"FADD": cycles // 2}), [], {})


@pytest.mark.parametrize(
    ("name", "key", "stores"),
    [
        (f"_ZN6srfast8conv_mmaINS_4HalfE{SHAPE}LNS_6EndingE3EEEvNS_10ConvParamsE", "conv_mma 3x3, 64 to 64, 8x16", 8),
        (f"_ZN6srfast17conv_few_channelsINS_4HalfELi4E{SHAPE}EEvNS_10ConvParamsE", "conv_few_channels pixels of 4", 8),
        ("_ZN6srfast8pair_mmaINS_4HalfELNS_6EndingE0EEEvNS_10PairParamsE", "pair_mma", 7),
        ("_ZN6srfast10conv_wgmmaINS_4HalfELNS_6WindowE3ELNS_6EndingE1EEEvNS_12HopperParamsE", "conv_wgmma offset", 8),
        ("_ZN6srfast9conv_heldINS_4HalfELNS_6EndingE2EEEvNS_10HeldParamsE", "conv_held", 4),
    ],
)
def test_what_is_walked(name: str, key: str, stores: int) -> None:
    """A kernel's shape and ending are read from its name; a general ending is walked twice."""
    found = list(paths(Kernel("80", name, {}, "")))
    special = "EndingE" in name and "EndingE0" not in name
    assert [k[0] for k, _ in found] == [key] * (1 if special else 2)
    assert [len(path.via) for _, path in found] == ([stores] if special else [stores, 2 * stores])


def test_table() -> None:
    """Both types where they differ, an older module's general ending beside a special one, gaps where nothing is."""
    now = {
        "80": {
            (("a", "residual"), "half"): walk_of(1200),
            (("a", "residual"), "bfloat16"): walk_of(1300),
            (("a", "general"), "half"): walk_of(4000),
        },
        "90a": {(("a", "general"), "half"): walk_of(4000), (("a", "general"), "bfloat16"): walk_of(4000)},
    }
    before = {
        "80": {(("a", "general, residual"), "half"): walk_of(6000)},
        "90a": {(("a", "general"), "half"): walk_of(4000)},
    }
    assert older(("a", "general"), before["80"]) is None
    assert table(now, before, "cycles").splitlines() == [
        "| kernel | ending | sm_80 | sm_90a |",
        "|---|---|---|---|",
        "| a | general | 4,000 | 4,000 |",
        "| a | residual | 6,000 → 1,200 / 1,300 | - |",
    ]
    assert "3,000 → 600 / 650" in table(now, before, "instructions")


def test_nothing_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    before = cuda.use_module(None)
    try:
        assert main([]) == 0
    finally:
        cuda.use_module(before)
    assert "nothing to look at" in capsys.readouterr().out


@pytest.mark.parametrize("arch", ["80", "90a"])
def test_the_compiled_module(arch: str) -> None:
    """Every ending is found on its path, and each special one is shorter than the general one of its kernel."""
    if cuda.unavailable_reason():
        pytest.skip(f"nothing to read: {cuda.unavailable_reason()}")
    if arch not in cuda.architectures():
        pytest.skip(f"the module was built without sm_{arch}")
    found = walks(Path(cuda.compiled.__file__), arch)
    special = [key for key, kind in found if kind == "half" and not key[1].startswith("general")]
    special = [key for key in special if key[0] != "conv_int8"]  # which has no general one
    assert len(special) >= (8 if arch == "80" else 28)
    for name, ending in special:
        assert found[(name, ending), "half"].cycles < found[(name, general_of(ending)), "half"].cycles
