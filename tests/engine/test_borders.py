"""Networks without padding in their convolutions: the plan's border, crops and shifted strides, tiles, regions, means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import srfast
from srfast.capture import capture
from srfast.engine import Engine
from srfast.errors import UnsupportedModelError
from srfast.kernels import cpu
from srfast.kernels.cpu.classes import VARIABLE
from srfast.models.bordered import mirrored, with_border
from srfast.plan.export_onnx import export_onnx
from srfast.plan.passes import optimise
from tests.helpers.networks.bordered import two_unets

BACKENDS = ["reference", "cpu"]


def image(height: int, width: int) -> Tensor:
    """[1, H, W, 3] float32 in 0..1."""
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(height))


@torch.inference_mode()
def eager(module: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = module(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).clamp(0, 1)
    return y


def engine(module: nn.Module, backend: str, **options: int) -> Engine:
    return Engine(optimise(capture(module)), backend=backend, device="cpu", dtype=torch.float32, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("gate", [False, True], ids=["plain", "gated"])
@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("size", [(37, 50), (2, 9), (33, 3)], ids=str)
def test_the_whole_image(scale: int, gate: bool, backend: str, size: tuple[int, int]) -> None:
    """Also of images smaller than their border, and of sides that are no multiples."""
    module, x = two_unets(scale, gate), image(*size)
    expected = eager(module, x)
    assert expected.std() > 0.01
    torch.testing.assert_close(engine(module, backend)(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_tiles_and_regions(scale: int, backend: str) -> None:
    module, x = two_unets(scale, gate=False), image(61, 47)
    whole = engine(module, backend)(x)
    tiled = engine(module, backend, tile=16)
    exact = 0 if backend == "cpu" else 1e-6
    torch.testing.assert_close(tiled(x), whole, rtol=0, atol=exact)
    assert tiled.statistics.tiles > 4
    part = tiled.region(x, 5, 7, 31, 11)
    torch.testing.assert_close(part, whole[:, 5 * scale : 36 * scale, 7 * scale : 18 * scale], rtol=0, atol=exact)


@pytest.mark.parametrize("backend", BACKENDS)
def test_means_make_no_tiles(backend: str) -> None:
    module, x = two_unets(2, gate=True), image(40, 36)
    whole = engine(module, backend, memory=1 << 10)
    assert whole.halo is None
    torch.testing.assert_close(whole(x), eager(module, x), rtol=0, atol=1e-5)
    assert whole.statistics.tiles == 1
    part = whole.region(x, 3, 5, 20, 7)
    torch.testing.assert_close(part, whole(x)[:, 6:46, 10:24], rtol=0, atol=0)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("gate", [False, True], ids=["plain", "gated"])
def test_instruction_sets(isa: str, gate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, isa)
    module, x = two_unets(2, gate), image(23, 18)
    torch.testing.assert_close(engine(module, "cpu")(x), eager(module, x), rtol=0, atol=1e-5)


def test_integers_and_bgr() -> None:
    module = two_unets(2, gate=False)
    runs = engine(module, "cpu")
    x = (image(21, 30) * 65535).round().to(torch.uint16)
    expected = (eager(module, x.float() / 65535) * 65535).round()
    assert (runs(x).float() - expected).abs().max() <= 1
    small = (image(21, 30) * 255).round().to(torch.uint8)
    assert torch.equal(runs(small, bgr=True), runs(small.flip(3)).flip(3))


def test_compiled_and_dynamic_batches() -> None:
    module = two_unets(3, gate=True)
    x = torch.rand(2, 3, 13, 22, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = module(x)
    torch.testing.assert_close(
        srfast.compile(module, device="cpu", dtype=torch.float32)(x), expected, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("gate", [False, True], ids=["plain", "gated"])
def test_exported(tmp_path: Path, gate: bool) -> None:
    runtime = pytest.importorskip("onnxruntime")
    module, path = two_unets(2, gate), tmp_path / "m.onnx"
    export_onnx(optimise(capture(module)), path)
    x = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(2))
    got = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": x.numpy()})[0]
    with torch.inference_mode():
        np.testing.assert_allclose(got, module(x).numpy(), atol=1e-5)


def test_mirrored_as_numpy_does() -> None:
    for length in (2, 3, 5, 9):
        row = np.arange(length)
        assert mirrored(length, 7, 11).tolist() == np.pad(row, (7, 11), mode="reflect").tolist()
    assert mirrored(1, 2, 3).tolist() == [0] * 6
    x = torch.arange(30.0).view(1, 1, 5, 6)
    torch.testing.assert_close(with_border(x, 2, 1), F.pad(x, (2, 2, 2, 2), mode="reflect"))
    assert with_border(x, 2, 4).shape == (1, 1, 12, 12)


class Short(nn.Module):
    """Gives fewer pixels than the image has."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Short(nn.Conv2d(3, 3, 3)), "1 and 1 pixels less"),
        (Short(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3, padding=1)), "zeros around an image"),
        (Short(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 3, 4, 2, 1)), "reaches beyond"),
        (Short(nn.ConvTranspose2d(3, 3, 4, 2, 0)), "larger than"),
        (Short(nn.Conv2d(3, 8, 3), nn.Upsample(scale_factor=2, mode="bicubic")), "resize"),
        (Short(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8)), "instancenorm"),
    ],
)
def test_what_a_border_cannot_mend(module: nn.Module, says: str) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        capture(module)


def test_activations_that_lie_apart() -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.b(self.a(x)) + x[:, :, 1:-3, 1:-3]
            return y

    with pytest.raises(UnsupportedModelError, match="lie apart"):
        capture(Apart())
