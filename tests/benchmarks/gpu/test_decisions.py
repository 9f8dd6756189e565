"""The fastest right kernels of a table, in the form in which srfast reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.decisions import decisions, rows_of, write_decisions


def row(what: str, us: float, kind: str = "conv", key: str = "conv 3x3 64->64", **more: Any) -> dict[str, Any]:
    return {
        "name": f"{kind} {what} {key} {more}",
        "kind": kind,
        "what": what,
        "key": key,
        "us": us,
        "width": 480,
        "height": 270,
    } | more


def test_decisions() -> None:
    fused, plain, gluon = "pair 3x3 64->256, 5x5 ->12", {"gluon": False}, {"gluon": True}
    rows = [
        row("wgmma", 20.0),
        row("wgmma_held", 10.0),
        row("wgmma_shifted", 5.0, failed="wrong result"),
        row("mma", 1.0, residual=True),
        row("shipped", 40.0, "triton", config=plain),
        row("gluon", 25.0, "triton", config=gluon),
        row("wgmma_held", 99.0, width=960, height=540),
        row("two launches", 30.0, "tail", fused),
        row("tail_wgmma", 20.0, "tail", fused),
        row("mma", 7.0, key="conv 9x9 3->64"),
        row("separate launches", 330.0, "trunk", "trunk 3x3 64"),
        row("trunk_wgmma", 264.0, "trunk", "trunk 3x3 64"),
        {"name": "two strips", "kind": "trunk", "what": "two strips a block", "us": 1.0, "width": 480, "height": 270},
        {"name": "launches", "kind": "launches", "image, plain": {"us": 3.0}, "image, dependent": {"us": 2.0}},
    ]
    cuda, triton = decisions(rows)
    assert cuda == {
        "conv 3x3 64->64": {"kernel": "wgmma_held", "programmatic": True, "speedup": 2.5},
        fused: {"kernel": "tail_wgmma", "programmatic": True, "speedup": 1.5},
        "conv 9x9 3->64": {"kernel": "mma", "programmatic": True, "speedup": 0.0},
        "trunk 3x3 64": {"kernel": "trunk_wgmma", "programmatic": True, "speedup": 1.25},
    }
    assert triton == {"conv 3x3 64->64": gluon}


def test_a_fused_kernel_is_compared_with_the_fastest_two_launches() -> None:
    """Also of Triton, since the mixed backend takes single launches from both; at the same size only."""
    fused = "pair 3x3 64->256, 5x5 ->12"
    rows = [
        row("two launches", 30.0, "tail", fused),
        row("tail_wgmma", 10.0, "tail", fused),
        row("mma", 18.0, key="conv 3x3 64->256"),
        row("shipped", 9.0, "triton", "conv 3x3 64->256", config={}),
        row("shipped", 1.0, "triton", "conv 5x5 256->12", config={}, width=960, height=540),
    ]
    assert decisions(rows)[0][fused]["speedup"] == 3.0, "a part was not measured at that size"
    rows.append(row("mma", 6.0, key="conv 5x5 256->12"))
    assert decisions(rows)[0][fused]["speedup"] == 1.5


def test_decisions_are_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written can be read by what it is for; lines cut off by a kill are passed over."""
    from srfast.kernels.cuda import config as cuda_config
    from srfast.kernels.triton import config as triton_config

    path = tmp_path / "table.jsonl"
    chosen = {"tile_h": 16, "tile_w": 16, "warps": 8, "swap": True}
    lines = [{"name": "device", "gpu": "GPU X"}, row("wgmma_held", 10.0), row("way", 20.0, "triton", config=chosen)]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"name": "cut')
    assert len(rows_of(path)) == 3
    write_decisions(path)
    monkeypatch.setenv(cuda_config.VARIABLE, str(tmp_path / "cuda_configs.json"))
    monkeypatch.setenv(triton_config.VARIABLE, str(tmp_path / "configs.json"))
    assert cuda_config.find_config(("GPU X",), 64, 64, 3) == cuda_config.CudaConfig("wgmma_held", False, 2.0)
    assert triton_config.find_config(("GPU X",), "conv 3x3 64->64") == triton_config.Config(**chosen)
