"""State_dicts behind names that nobody foresaw, and messages for files that are no known network, whatever they are called."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from srfast.checkpoint import load_model
from srfast.cli import main
from srfast.errors import CheckpointError, SrfastError, escaped, printable
from srfast.models import SRVGGNetCompact
from srfast.models.cugan import RealCUGAN
from tests.helpers.networks.public import Size, Weights, compact, esrgan_old

State = dict[str, Tensor]
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u202e\udc80"


def state(seed: int = 0) -> State:
    torch.manual_seed(seed)
    return SRVGGNetCompact(num_feat=6, num_conv=1, upscale=2).state_dict()


def prefixed(name: str, of: State) -> State:
    return {f"{name}.{key}": value for key, value in of.items()}


D = {"conv.weight": torch.ones(4, 3, 3, 3), "fc.bias": torch.ones(2)}
WRAPPED: dict[str, Callable[[State, State], Any]] = {
    "G.": lambda s, other: prefixed("G", s),
    "gen.": lambda s, other: prefixed("gen", s),
    "network.": lambda s, other: prefixed("network", s),
    "any one": lambda s, other: prefixed("_my_upscaler_2", s),
    "two prefixes": lambda s, other: prefixed("a", prefixed("b", s)),
    "ema": lambda s, other: {"ema": s},
    "ema beside": lambda s, other: {"model_weights": other, "ema_weights": s, "step": 3},
    "ema beside a usual name": lambda s, other: {"state_dict": other, "ema_state_dict": s, "epoch": 3},
    "ema beside the model": lambda s, other: {"model": prefixed("module", other), "ema": prefixed("module", s)},
    "ema as a prefix beside a usual one": lambda s, other: {
        "state_dict": prefixed("net_g", other) | prefixed("net_g_ema", s)
    },
    "params beside ema": lambda s, other: {"G": other, "G_ema": s, "D": D},
    "G and D": lambda s, other: {"G": s, "D": D},
    "G and D as prefixes": lambda s, other: prefixed("G", s) | prefixed("D", D),
    "gen_state_dict": lambda s, other: {"gen_state_dict": s, "optimizer": {"state": {}, "param_groups": []}},
    "prefix in a wrapper": lambda s, other: {"checkpoint": {"weights": prefixed("net_g_2", s)}},
    "a step beside": lambda s, other: {"step": torch.tensor(3), **s},
    "a step of one number in a usual name": lambda s, other: {
        "params": {**s, "step": torch.tensor([3], dtype=torch.int32)}
    },
    "averaged": lambda s, other: prefixed("module", {**s, "n_averaged": torch.tensor(3)}),
    "averaged outside": lambda s, other: {"n_averaged": torch.tensor(3), **prefixed("module", s)},
    "a mark": lambda s, other: {"trained": torch.tensor(True), **prefixed("net_g", s)},
    "loss beside": lambda s, other: {"epoch": 4, "loss": torch.tensor(0.5), "nets": {"g": s, "d": D}},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_any_wrapper(tmp_path: Path, name: str) -> None:
    given, x = state(), torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(1))
    plain = SRVGGNetCompact(num_feat=6, num_conv=1, upscale=2)
    plain.load_state_dict(given)
    torch.save(WRAPPED[name](given, state(seed=5)), tmp_path / "w.pth")
    assert torch.equal(load_model(tmp_path / "w.pth").module(x), plain(x))


def test_numbers_that_are_no_counts_are_refused(tmp_path: Path) -> None:
    for number in (torch.tensor([3, 4]), torch.tensor(0.5)):
        torch.save({"step": number, **state()}, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match=r"step (holds int64|not expected)"):
            load_model(tmp_path / "w.pth")
    torch.save({"step": torch.tensor(3)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="step holds int64"):
        load_model(tmp_path / "w.pth")


@pytest.mark.parametrize("kind", [torch.float32, torch.int64])
def test_the_mark_of_real_cugan_counts(tmp_path: Path, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    torch.save(RealCUGAN(pro=True).state_dict() | {"pro": torch.tensor(1, dtype=kind)}, tmp_path / "w.pth")
    assert load_model(tmp_path / "w.pth").arguments["pro"] is True


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".onnx", ".param", ""])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pytorch_file_of_another_suffix(tmp_path: Path, suffix: str, zipped: bool) -> None:
    given = state()
    torch.save(given, tmp_path / f"w{suffix}", _use_new_zipfile_serialization=zipped)
    assert torch.equal(load_model(tmp_path / f"w{suffix}").module.state_dict()["body.0.weight"], given["body.0.weight"])


def test_layers_called_model_are_no_prefix(tmp_path: Path) -> None:
    weights, x = Weights(torch.Generator().manual_seed(0)), torch.rand(1, 3, 6, 6)
    expected = esrgan_old(weights, x, Size(4, 1))
    torch.save({"gen": weights.state}, tmp_path / "w.pth")
    torch.testing.assert_close(load_model(tmp_path / "w.pth").module(x), expected, rtol=0, atol=1e-4)


def test_several_networks_are_named(tmp_path: Path) -> None:
    torch.save({"left": state(), "right": state(1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds 2 networks, 'left', 'right'"):
        load_model(tmp_path / "w.pth")


def test_parts_of_an_unknown_network_are_no_network(tmp_path: Path) -> None:
    """Groups of blocks have keys like those of a plain network."""
    inner = SRVGGNetCompact(num_in_ch=64, num_out_ch=64, num_feat=64, num_conv=0, upscale=1).state_dict()
    torch.save(
        prefixed("trunk.0", inner) | prefixed("trunk.1", inner) | {"first.weight": torch.ones(64, 3, 3, 3)},
        tmp_path / "w.pth",
    )
    with pytest.raises(CheckpointError, match="no known architecture"):
        load_model(tmp_path / "w.pth")


def test_many_tables_take_no_time(tmp_path: Path) -> None:
    torch.save({f"a{i}.b{i}": torch.ones(1) for i in range(5000)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="no known architecture"):
        load_model(tmp_path / "w.pth")


def test_an_unknown_file_takes_three_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the 100 columns that a terminal has at least nowadays."""
    torch.manual_seed(0)
    for name, module in (
        ("transformer", nn.TransformerEncoderLayer(16, 2)),
        ("plain", nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))),
    ):
        torch.save(module.state_dict(), tmp_path / f"{name}.pth")
        with pytest.raises(CheckpointError) as caught:
            load_model(tmp_path / f"{name}.pth")
        message = str(caught.value).removeprefix(str(tmp_path))
        assert len(message) <= 300
        assert "nearest is" in message
        assert "srfast inspect --keys" in message
        assert main(["inspect", "--keys", str(tmp_path / f"{name}.pth")]) == 0
        listed = capsys.readouterr().out
        assert all(key in listed for key in module.state_dict())
        assert "SPAN" in listed


def test_escaped() -> None:
    text = escaped(ESCAPES + "é日本 'quoted' \\ done")
    assert all(c.isprintable() or c in "\n\t" for c in text)  # a message may have lines
    assert text.endswith("é日本 'quoted' \\ done")
    assert printable("k" * 200) == repr("k" * 57 + "...")
    assert all(c.isprintable() or c in "\n\t" for c in str(SrfastError(f"about {ESCAPES}")))


def key_files(folder: Path) -> list[Path]:
    """Files whose keys, tables, metadata and layer names hold control characters, each refused in another place."""
    key, files = f"body.0{ESCAPES[:-1]}weight", []

    def add(name: str, write: Callable[[Path], Any]) -> None:
        files.append(folder / name)
        write(files[-1])

    good = state()
    first = next(iter(good))
    add("unknown.pth", lambda p: torch.save({key: torch.ones(2)}, p))
    add("extra.pth", lambda p: torch.save(good | {key: torch.ones(2)}, p))
    add("renamed.pth", lambda p: torch.save({(key if k == first else k): v for k, v in good.items()}, p))
    add("integer.pth", lambda p: torch.save(good | {key: torch.ones(2, dtype=torch.int32)}, p))
    add("nan.pth", lambda p: torch.save(good | {key: torch.full((2,), float("nan"))}, p))
    add("tables.pth", lambda p: torch.save({key: good, f"{key}2": good}, p))
    add("prefix.pth", lambda p: torch.save(prefixed(key, good) | prefixed(f"{key}3", good), p))
    add("empty.pth", lambda p: torch.save({key: {key: "text"}}, p))
    add("unknown.safetensors", lambda p: safetensors.torch.save_file({key: torch.ones(2)}, p))
    add("extra.safetensors", lambda p: safetensors.torch.save_file(good | {key: torch.ones(2)}, p))

    def metadata(**facts: Any) -> Callable[[Path], None]:
        known = {"module": "SRVGGNetCompact", "arguments": {}, "architecture": "x", "layout": "y", "values": "z"}
        return lambda p: safetensors.torch.save_file(good, p, {"srfast": json.dumps(known | facts)})

    add("module.safetensors", metadata(module=key))
    add("argument.safetensors", metadata(arguments={key: 1}))
    add("value.safetensors", metadata(arguments={"act_type": key[:30]}))
    add("facts.safetensors", metadata(architecture=key, layout=key, values=key, arguments={"num_feat": 7}))
    add("gap.safetensors", lambda p: p.write_bytes(_with_gap(key)))
    add(
        "ncnn.safetensors",
        lambda p: safetensors.torch.save_file(good, p, {"ncnn.param": f"7767517\n1 1\nInput {key} 0 1"}),
    )
    text = "7767517\n2 2\nInput in 0 1 x 2=3\n{}\n"
    odd = key.replace("\r\n", "")
    for name, line in (
        ("kind", f"{odd} a 1 1 x y"),
        ("layer", f"LSTM {odd} 1 1 x y"),
        ("blob", f"ReLU a 1 1 {odd} y"),
        ("count", f"ReLU a {odd} 1 x y"),
        ("parameter", f"ReLU a 1 1 x y 0={odd}"),
        ("text", f'Convolution a 1 1 x y 0="{odd}"'),
        ("result", f"Split a 1 2 x {odd} z"),
    ):
        add(f"{name}.param", lambda p, line=line: p.write_text(text.format(line)))
        (folder / f"{name}.bin").write_bytes(b"")
    return files


def _with_gap(key: str) -> bytes:
    header = json.dumps({key: {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


def test_control_characters_in_files_never_reach_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """By load_model, and by every command that prints something of a file."""
    files = key_files(tmp_path)
    assert len(files) > 20
    for path in files:
        with pytest.raises(CheckpointError) as caught:
            load_model(path)
        message = str(caught.value)
        assert message.isprintable(), path.name
        assert len(message.replace(str(tmp_path), "")) <= 400, message
        for command in (
            ["inspect"],
            ["inspect", "--keys"],
            ["upscale", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "-m"],
        ):
            main([*command, str(path)])
            out = "".join(capsys.readouterr())
            assert all(c.isprintable() or c == "\n" for c in out), (path.name, command)


def test_control_characters_in_names_of_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Names as well: of one that is missing, damaged, half an ncnn network, of a network that leaves something open."""
    odd = "a\x1b[2J\x9b31m\u202e"
    missing, damaged = tmp_path / f"{odd}.pth", tmp_path / f"{odd}2.pth"
    damaged.write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / f"{odd}.param").write_text("7767517")
    weights = Weights(torch.Generator().manual_seed(0))
    compact(weights, torch.rand(1, 3, 8, 8), Size(4, 0, 1))
    for path in (missing, damaged, tmp_path / f"{odd}.param", tmp_path, tmp_path / f"{odd}.safetensors"):
        for command in (["inspect"], ["convert"], ["verify"]):
            main([*command, str(path), *([str(tmp_path / f"{odd}o.safetensors")] if command == ["convert"] else [])])
            captured = capsys.readouterr()
            assert "error" in captured.err
            assert all(c.isprintable() or c == "\n" for c in captured.out + captured.err)


def test_log_lines_are_escaped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    main(["inspect", str(tmp_path / "none.pth")])
    logging.getLogger("srfast").warning("%s is odd", ESCAPES)
    assert all(c.isprintable() or c == "\n" for c in capsys.readouterr().err)
