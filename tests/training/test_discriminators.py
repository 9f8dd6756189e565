"""Shapes over odd sizes, and the layers that were asked for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from srfast.training.discriminators import ClassDiscriminator, DigitClassifier, DigitDiscriminator, SRGANDiscriminator


@pytest.mark.parametrize("size", [1, 7, 16, 31, 33])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_srgan_discriminator(size: int, norm: str) -> None:
    torch.manual_seed(0)
    net = SRGANDiscriminator(size, channels=4, norm=norm, dense=8)
    assert net(torch.rand(3, 3, size, size)).shape == (3,)
    with pytest.raises(ValueError, match=f"takes {size}x{size} images"):
        net(torch.rand(1, 3, size + 1, size))


def test_srgan_discriminator_is_the_published_one() -> None:
    with torch.device("meta"):
        net = SRGANDiscriminator(96)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [c.stride[0] for c in convs] == [1, 2, 1, 2, 1, 2, 1, 2]
    assert [m.out_features for m in net.modules() if isinstance(m, nn.Linear)] == [1024, 1]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == 7
    assert {m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert not any("Pool" in type(m).__name__ or isinstance(m, nn.Sigmoid) for m in net.modules())


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (13, 7)])
def test_digit_discriminator_has_no_dense_layer(size: tuple[int, int]) -> None:
    net = DigitDiscriminator(1, channels=4)
    assert net(torch.rand(2, 1, *size)).shape == (2,)
    assert not any(isinstance(m, (nn.Linear, nn.Sigmoid)) for m in net.modules())


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (17, 5)])
def test_class_discriminator_has_two_heads(size: tuple[int, int]) -> None:
    validity, label = ClassDiscriminator(7, channels=4)(torch.rand(2, 3, *size))
    assert (validity.shape, label.shape) == ((2,), (2, 7))


@pytest.mark.parametrize("size", [28, 27, 12])
def test_digit_classifier(size: int) -> None:
    net = DigitClassifier().eval()
    assert net(torch.rand(2, 1, size, size)).shape == (2, 10)
    assert net.features(torch.rand(2, 1, size, size)).shape == (2, DigitClassifier.num_features)
