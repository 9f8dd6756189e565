"""VGG content, LPIPS and DISTS on seeded random backbones, against torchmetrics' networks on the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srfast.errors import CheckpointError
from srfast.training.backbones import Backbone, phi
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


def test_content_loss_by_hand(vgg16: Backbone) -> None:
    x, y = images()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    features = [vgg16.features[:9]((t - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)) for t in (x, y)]
    expected = ((features[0] - features[1]) / 12.75).square().mean()
    loss = ContentLoss(vgg16, 2, 2)
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
    loss = make(vgg16) if make is not ContentLoss else ContentLoss(vgg16, 3, 3)  # type: ignore[operator]
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
