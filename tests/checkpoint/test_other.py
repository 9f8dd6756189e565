"""Networks through spandrel: found, run with tiles, told apart; refused safely; and the hint where spandrel is missing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import srfast
from srfast.checkpoint import load_model, save_checkpoint
from srfast.checkpoint.other import read_other
from srfast.cli import main
from srfast.errors import CheckpointError

REASON = "spandrel is not installed: pip install 'srfast[any]'"


def network(name: str) -> nn.Module:
    """A small network of a kind that srfast has no reader for."""
    pytest.importorskip("spandrel", reason=REASON)
    torch.manual_seed(2)
    if name == "SwinIR":
        from spandrel.architectures.SwinIR import SwinIR

        return SwinIR(
            img_size=16, depths=[2], embed_dim=16, num_heads=[2], window_size=8, upscale=2, upsampler="pixelshuffle"
        )
    if name == "DAT":
        from spandrel.architectures.DAT import DAT

        return DAT(
            img_size=16, split_size=[2, 4], depth=[2], embed_dim=16, num_heads=[2], expansion_factor=2, upscale=2
        )
    if name == "OmniSR":
        from spandrel.architectures.OmniSR import OmniSR

        return OmniSR(num_feat=16, block_num=1, res_num=1, up_scale=2, window_size=8, bias=True)
    from spandrel.architectures.SAFMN import SAFMN

    return SAFMN(dim=16, n_blocks=2, upscaling_factor=2)


@pytest.mark.parametrize("name", ["SwinIR", "DAT", "OmniSR", "SAFMN"])
def test_found_and_run(tmp_path: Path, name: str) -> None:
    module = network(name).eval()
    torch.save({"params_ema": module.state_dict()}, tmp_path / "x.pth")
    model = load_model(tmp_path / "x.pth")
    assert (model.architecture, model.scale, model.layout) == (name, 2, "spandrel")
    x = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = module(x)
    torch.testing.assert_close(model.module(x), expected, rtol=0, atol=1e-5)
    upscaler = srfast.Upscaler(model, device="cpu", dtype="fp32", tile=0)
    assert upscaler.plan.blends
    got = upscaler(x)
    torch.testing.assert_close(got, expected.clamp(0, 1), rtol=0, atol=1e-4)
    # Odd sizes, and tiles.
    image = np.random.default_rng(3).integers(0, 256, (37, 51, 3), np.uint8)
    assert upscaler(image).shape == (74, 102, 3)
    large = np.random.default_rng(3).integers(0, 256, (101, 130, 3), np.uint8)
    tiled = srfast.Upscaler(model, device="cpu", dtype="fp32", tile=48)
    assert tiled(large).shape == (202, 260, 3)
    assert tiled.engine.statistics.tiles > 1
    with pytest.raises(CheckpointError, match="not converted"):
        save_checkpoint(model.module, tmp_path / "y.safetensors", facts=model)


def test_inspect_says_what_runs_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(network("SAFMN").state_dict(), tmp_path / "x.pth")
    assert main(["inspect", str(tmp_path / "x.pth")]) == 0
    text = capsys.readouterr().out
    assert "SAFMN x2, keys of spandrel" in text
    assert "PyTorch runs " in text
    assert "blended and not exact" in text


def test_some_of_it_runs_in_own_kernels(tmp_path: Path) -> None:
    """Convolutions between what no kernel covers stay srfast's."""
    torch.save(network("SAFMN").state_dict(), tmp_path / "x.pth")
    kinds = [type(node).__name__ for node in srfast.Upscaler(load_model(tmp_path / "x.pth"), device="cpu").plan.nodes]
    assert kinds.count("Conv") >= 6
    assert len(set(kinds)) >= 3


def test_the_shares_count_what_spandrel_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of ``docs/models.md`` counts no architecture that spandrel does not know."""
    spandrel = pytest.importorskip("spandrel", reason=REASON)
    known = {"".join(filter(str.isalnum, entry.architecture.id.lower())) for entry in spandrel.MAIN_REGISTRY}
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent.parent / "docs"))
    steps = importlib.import_module("make_shares").STEPS
    assert set(steps["with `srfast[any]`, through spandrel"]) <= known
    assert not {"srformer", "hma", "spsr", "ludvae"} & known


@pytest.mark.parametrize(("multiple_of", "minimum", "expected"), [(6, 0, 6), (4, 16, 16), (1, 0, 1)])
def test_sides_are_multiples_of_what_spandrel_says(
    multiple_of: int, minimum: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another module in spandrel's place: the networks above continue images themselves."""

    class Descriptor:
        architecture = SimpleNamespace(name="Toy")
        size_requirements = SimpleNamespace(square=False, multiple_of=multiple_of, minimum=minimum)
        scale, model = 2, nn.Conv2d(3, 3, 1)

    class Loader:
        def __init__(self, device: str) -> None:
            pass

        def load_from_state_dict(self, state: dict[str, Any]) -> Descriptor:
            return Descriptor()

    module: Any = ModuleType("spandrel")
    module.ImageModelDescriptor, module.ModelLoader, module.UnsupportedModelError = Descriptor, Loader, KeyError
    monkeypatch.setitem(sys.modules, "spandrel", module)
    other = read_other({"x": torch.ones(1)})
    assert other is not None
    assert (other.architecture, other.module.scale, other.module.multiple) == ("Toy", 2, expected)


def test_bad_values_are_refused(tmp_path: Path) -> None:
    state = network("SAFMN").state_dict()
    next(iter(state.values())).fill_(float("nan"))
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="NaN"):
        load_model(tmp_path / "x.pth")


def test_shapes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state: dict[str, Any] = dict(network("SAFMN").state_dict())
    key = next(k for k, v in state.items() if v.ndim == 4 and "mfr" in k)
    torch.save(state | {key: torch.ones(1, 2, 3, 3)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="spandrel cannot build it"):
        load_model(tmp_path / "x.pth")


def test_known_networks_stay_with_srfast(tmp_path: Path) -> None:
    pytest.importorskip("spandrel", reason=REASON)
    from srfast.models import RRDBNet

    torch.save(RRDBNet(num_feat=4, num_block=1, num_grow_ch=2).state_dict(), tmp_path / "x.pth")
    assert load_model(tmp_path / "x.pth").layout.startswith("BasicSR")


def test_no_code_of_a_file_runs(tmp_path: Path) -> None:
    """With spandrel as well: srfast reads the file."""

    class Evil:
        def __reduce__(self) -> Any:
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"feats.0.weight": torch.ones(3), "x": Evil()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists()


def test_without_spandrel_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    torch.save({"layers.0.attn.qkv.weight": torch.ones(3, 3)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"no known architecture.*srfast\[any\]") as caught:
        load_model(tmp_path / "x.pth")
    assert len(str(caught.value)) < 500
