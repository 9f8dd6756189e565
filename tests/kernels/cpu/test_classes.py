"""Classes of CPUs: what ``SRFAST_CPU`` names, and what a machine that lacks it does instead."""

from __future__ import annotations

import pytest

from srfast.kernels import cpu
from srfast.kernels.cpu import classes

needs_kernels = pytest.mark.skipif(cpu.unavailable_reason() is not None, reason=str(cpu.unavailable_reason()))


@needs_kernels
@pytest.mark.parametrize("name", classes.CLASSES)
def test_a_class_runs_on_kernels_that_are_here(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The fastest that both have: never more than the class, never more than the machine."""
    monkeypatch.setenv(classes.VARIABLE, name)
    assert classes.cpu_class() == name
    chosen = cpu.default_instruction_set()
    assert chosen in cpu.instruction_sets()
    better = classes.sets_of(name)[: classes.sets_of(name).index(chosen)]
    assert not set(better) & set(cpu.instruction_sets())
    assert cpu.Network().instruction_set == chosen


@needs_kernels
def test_without_the_variable_the_machine_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(classes.VARIABLE, "")
    assert classes.pretended() == ("", "")
    assert (classes.cpu_vendor(), classes.cpu_class()) == (classes.real_vendor(), classes.real_class())
    assert cpu.default_instruction_set() == cpu.instruction_sets()[0]


def test_vendors_and_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, vendor, name in (
        ("intel:amx", "intel", "amx"),
        ("amd:none", "amd", "none"),
        ("portable", classes.real_vendor(), "none"),
    ):
        monkeypatch.setenv(classes.VARIABLE, text)
        assert (classes.cpu_vendor(), classes.cpu_class()) == (vendor, name)


@pytest.mark.parametrize("text", ["sse9", "AVX2", "via:avx2", "intel:", "avx2\x1b[31m", "avx2,amx", "9" * 5000])
def test_what_is_no_class(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(classes.VARIABLE, text)
    for ask in (classes.cpu_class, classes.cpu_vendor, cpu.default_instruction_set):
        with pytest.raises(ValueError, match="none, avx2, avx512, avx512_bf16, amx") as error:
            ask()
        assert str(error.value).isprintable() and len(str(error.value)) < 300
