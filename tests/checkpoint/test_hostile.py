"""Hostile and damaged files: each refused with a clear error, within a second, with nothing run and memory bounded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from srfast.checkpoint import load_model
from srfast.errors import CheckpointError
from srfast.models import SRVGGNetCompact
from tests.helpers.hostile import files as hostile
from tests.helpers.hostile.attempts import refuse
from tests.helpers.hostile.parts import CANARY


def failures(cases: Iterator[hostile.Case], folder: Path) -> tuple[list[str], int]:
    wrong, count = [], 0
    for name, data in cases:
        suffix = ".safetensors" if "safetensors" in name or "metadata" in name else ".pth"
        path = folder / f"case{count}{suffix}"
        path.write_bytes(data)
        wrong.append(refuse(name, path))
        count += 1
        path.unlink()
    return [w for w in wrong if w], count


@pytest.mark.parametrize("family", hostile.FAMILIES)
def test_refused(tmp_path: Path, family: str) -> None:
    wrong, count = failures(hostile.FAMILIES[family](), tmp_path)
    assert wrong == []
    assert count >= 7


def test_no_code_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / CANARY
    folder = tmp_path / "files"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    wrong, count = failures(hostile.executing(canary), folder)
    assert wrong == []
    assert count > 90
    assert not canary.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["files"]


def test_the_cases_would_run_code(tmp_path: Path) -> None:
    """The same pickles do run where they are trusted, so the test above means something."""
    import pickle

    canary = tmp_path / CANARY
    body = next(data for name, data in hostile.executing(canary) if name == "bare pickle calls os.system")
    pickle.loads(body)
    assert canary.exists()


def test_what_is_no_file(tmp_path: Path) -> None:
    wrong = [refuse(name, path) for name, path in hostile.paths(tmp_path)]
    assert [w for w in wrong if w] == []


def test_the_message_says_how_to_save_again(tmp_path: Path) -> None:
    path = tmp_path / "module.pth"
    torch.save(SRVGGNetCompact(num_feat=4, num_conv=0), path)
    with pytest.raises(CheckpointError, match=r"SRVGGNetCompact.*torch\.save\(model\.state_dict\(\)"):
        load_model(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (torch.float8_e4m3fn, "float8 or unsigned numbers"),
        (torch.float8_e5m2, "float8 or unsigned numbers"),
        (torch.uint16, "float8 or unsigned numbers"),
        (torch.complex64, "complex numbers"),
        (torch.complex128, "complex numbers"),
    ],
)
def test_other_numbers_are_no_python_objects(tmp_path: Path, kind: torch.dtype, named: str, zipped: bool) -> None:
    torch.save({"body.0.weight": torch.zeros(2).to(kind)}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=f"w.pth holds {named}, but weights are float64, float32"):
        load_model(tmp_path / "w.pth")


def test_other_tensors_are_no_python_objects(tmp_path: Path) -> None:
    for tensor, named in (
        (torch.eye(2).to_sparse(), "sparse tensors"),
        (torch.eye(2).to_sparse_csr(), "sparse tensors"),
        (torch.zeros(2, device="meta"), "tensors without numbers"),
    ):
        torch.save({"body.0.weight": tensor}, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match=f"w.pth holds {named}"):
            load_model(tmp_path / "w.pth")


def test_float8_in_safetensors(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"w.safetensors: tensor 'a' holds 'F8_E4M3', but weights are F64, F32"):
        load_model(tmp_path / "w.safetensors")


def test_files_without_checksums_load(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(SRVGGNetCompact(num_feat=4, num_conv=0).state_dict(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_model(path).scale == 4


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_flipped_bits(tmp_path: Path, kind: str) -> None:
    """A flipped bit gives an error or, where it only changed a number, a network with finite weights; never anything else."""
    torch.manual_seed(0)
    state = SRVGGNetCompact(num_feat=4, num_conv=1, upscale=2).state_dict()
    path = tmp_path / "flipped"
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    data, noise, loaded = path.read_bytes(), random.Random(1), 0
    for _ in range(150):
        changed = bytearray(data)
        changed[noise.randrange(len(data))] ^= 1 << noise.randrange(8)
        path.write_bytes(changed)
        try:
            model = load_model(path)
        except CheckpointError:
            continue
        loaded += 1
        assert all(torch.isfinite(v).all() for v in model.module.state_dict().values())
    assert loaded < 150
