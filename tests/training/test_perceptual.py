"""VGG content, LPIPS and DISTS on seeded random backbones, against torchmetrics' networks on the same weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from srfast.errors import CheckpointError
from srfast.training.backbones import Backbone, phi
from srfast.training.data import read_rgb, to_tensor
from srfast.training.imresize import imresize
from srfast.training.measures import Files, choose_metrics
from srfast.training.perceptual import DISTS, LPIPS, ContentLoss


@pytest.fixture(scope="module")
def vgg16() -> Backbone:
    return Backbone("vgg16", "random")


def images(size: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    return torch.rand(2, 3, size, size + 3), torch.rand(2, 3, size, size + 3)


@pytest.mark.parametrize(("block", "conv", "index"), [(1, 1, 1), (1, 2, 3), (2, 2, 8), (3, 4, 17), (5, 4, 35)])
def test_phi_names_torchvisions_layer(block: int, conv: int, index: int) -> None:
    """Indices in torchvision's vgg19.features: phi(2,2) is relu2_2 = 8, phi(5,4) is relu5_4 = 35."""
    assert phi("vgg19", block, conv) == index
    with pytest.raises(ValueError, match=r"no phi\(6,1\)"):
        phi("vgg19", 6, 1)


def test_content_loss_over_two_layers(vgg16: Backbone) -> None:
    """phi(5,3) + phi(2,2) of VGG16, in any order; what VGG16 has not, and half a pair, are refused."""
    x, y = images()
    expected = ContentLoss(vgg16, (5, 3))(x, y) + ContentLoss(vgg16, (2, 2))(x, y)
    for layers in ((5, 3, 2, 2), (2, 2, 5, 3)):
        torch.testing.assert_close(ContentLoss(vgg16, layers)(x, y), expected)
    with pytest.raises(ValueError, match=r"vgg16 has no phi\(5,4\)"):
        ContentLoss(vgg16, (5, 4))
    with pytest.raises(ValueError, match="pairs of i and j"):
        ContentLoss(vgg16, (5, 3, 2))


def test_content_loss_by_hand(vgg16: Backbone) -> None:
    x, y = images()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    features = [vgg16.features[:9]((t - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)) for t in (x, y)]
    expected = ((features[0] - features[1]) / 12.75).square().mean()
    loss = ContentLoss(vgg16, (2, 2))
    torch.testing.assert_close(loss(x, y), expected)
    assert loss(x, x) == 0
    x.requires_grad_(True)
    loss(x, y).backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in vgg16.parameters())


@pytest.mark.parametrize(("kind", "name"), [("alex", "alex"), ("vgg16", "vgg")])
def test_lpips_equals_torchmetrics(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.functional.image import lpips as reference

    backbone = Backbone(kind, "random")
    heads = Path(reference.__file__).parent / "lpips_models" / f"{name}.pth"
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda *_: backbone.features)
    expected = reference._LPIPS(net=name, use_dropout=True)
    x, y = images(67)
    ours = LPIPS(backbone, heads)
    torch.testing.assert_close(ours.each(x, y), expected(x, y, normalize=True).flatten(), rtol=1e-4, atol=1e-6)
    assert ours(x, x) == 0


def test_lpips_heads_are_the_given_ones(data_folder: Path) -> None:
    """The heads in the shared data and in torchmetrics are the same."""
    from torchmetrics.functional.image import lpips as reference

    for name in ("alex", "vgg"):
        given = torch.load(
            data_folder / "checkpoints" / "lpips_heads" / f"{name}.pth", map_location="cpu", weights_only=True
        )
        theirs = torch.load(
            Path(reference.__file__).parent / "lpips_models" / f"{name}.pth", map_location="cpu", weights_only=True
        )
        assert all(torch.equal(given[k], theirs[k]) for k in theirs)


def test_dists_equals_torchmetrics(vgg16: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.functional.image import dists as reference

    class Torchvision:
        DEFAULT = None
        features = vgg16.features

    monkeypatch.setattr(reference, "_TORCHVISION_AVAILABLE", True)
    monkeypatch.setattr(reference, "VGG16_Weights", Torchvision, raising=False)
    monkeypatch.setattr(reference, "vgg16", lambda **_: Torchvision, raising=False)
    expected = reference.DISTSNetwork()
    x, y = images(64)
    ours = DISTS(vgg16)
    torch.testing.assert_close(ours.each(x, y), expected(x, y), rtol=1e-4, atol=1e-5)
    assert ours(x, x).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("make", [lambda b: LPIPS(b, lpips_heads()), DISTS, ContentLoss])
def test_gradient_is_the_slope(make: object, vgg16: Backbone) -> None:
    loss = make(vgg16) if make is not ContentLoss else ContentLoss(vgg16, (3, 3))  # type: ignore[operator]
    loss = loss.double()
    x, y = (t.double() for t in images(32))
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(x, y), x)
    direction = gradient / gradient.norm()
    change = (loss(x.detach() + 1e-5 * direction, y) - loss(x.detach() - 1e-5 * direction, y)).item() / 2e-5
    loss.float()
    assert change == pytest.approx(gradient.norm().item(), rel=0.01)


def lpips_heads() -> Path:
    from torchmetrics.functional.image import lpips as reference

    return Path(reference.__file__).parent / "lpips_models" / "vgg.pth"


def test_the_file_says_which_vgg_it_is(tmp_path: Path) -> None:
    for kind, suffix in (("vgg16", ".safetensors"), ("vgg19", ".pth")):
        path = tmp_path / (kind + suffix)
        state = Backbone(kind, "random").state_dict()
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
        loaded = Backbone.vgg(path)
        assert loaded.kind == kind
        assert all(torch.equal(a, b) for a, b in zip(state.values(), loaded.state_dict().values(), strict=True))
    assert Backbone.vgg("random").kind == "vgg16"
    for content in (b"", b"\x08\0\0\0\0\0\0\0{}", b"PK\x03\x04"):
        (tmp_path / "bad.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bad\.safetensors"):
            Backbone.vgg(tmp_path / "bad.safetensors")


def test_lpips_on_the_real_alexnet(data_folder: Path) -> None:
    """The heads of torchmetrics on the real AlexNet: equal pictures 0, noise far more than a slight blur."""
    measure = choose_metrics(Files(alexnet=data_folder / "backbones" / "alexnet.safetensors"), 4)["LPIPS"]
    image = read_rgb(data_folder / "eval" / "Set5" / "HR" / "butterfly.png")
    noise = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    assert measure(image, image) == 0
    assert measure(cv2.GaussianBlur(image, (0, 0), 1), image) < 0.3 < measure(noise, image)


def test_the_real_vgg16_leads_towards_the_photograph(data_folder: Path) -> None:
    """Every content loss on the real VGG16, float32 on the CPU: its slope at a bicubic picture points at the original."""
    path = data_folder / "backbones" / "vgg16.safetensors"
    hr = read_rgb(data_folder / "eval" / "Set5" / "HR" / "butterfly.png")[:96, :96]
    sr = imresize(imresize(hr, 1 / 4), 4)
    for loss in (
        ContentLoss(Backbone.vgg(path), (5, 3, 2, 2)),
        LPIPS(Backbone("vgg16", path)),
        DISTS(Backbone("vgg16", path)),
    ):
        x, y = to_tensor(sr)[None].requires_grad_(True), to_tensor(hr)[None]
        (gradient,) = torch.autograd.grad(loss(x, y), x)
        assert (gradient * (y - x)).sum() < 0
        with torch.no_grad():
            assert loss(x + 0.3 * (y - x), y) < loss(x, y)


def test_a_file_in_torchvisions_layout(tmp_path: Path) -> None:
    backbone = Backbone("alex", "random")
    state = {**backbone.state_dict(), "classifier.1.weight": torch.zeros(2, 2)}
    torch.save(state, tmp_path / "alex.pth")
    loaded = Backbone("alex", tmp_path / "alex.pth")
    assert all(torch.equal(a, b) for a, b in zip(backbone.parameters(), loaded.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="not torchvision's vgg19"):
        Backbone("vgg19", tmp_path / "alex.pth")
    with pytest.raises(CheckpointError, match=r"backbone is missing .*torchvision\.models\.vgg19"):
        Backbone("vgg19", tmp_path / "none.pth")
    assert not loaded.train().training
