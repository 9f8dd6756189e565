"""The networks and losses that train together: pixels only (SRResNet, RRDB), and with a discriminator (SRGAN, ESRGAN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models import SRUGAN, RRDBNet, SRResNet, SRVGGNetCompact
from srfast.training import adversarial
from srfast.training.backbones import Backbone
from srfast.training.config import Config
from srfast.training.data import Batch
from srfast.training.discriminators import SRGANDiscriminator
from srfast.training.frequency import FREQUENCY_LOSSES
from srfast.training.initialise import TrainingForward
from srfast.training.perceptual import DISTS, LPIPS, ContentLoss

Terms = dict[str, Tensor]


def build_generator(config: Config) -> nn.Module:
    """The network that a configuration trains; ``blocks`` counts middle convolutions for Compact."""
    c = config
    if c.generator in ("srresnet", "digits"):
        return SRResNet(c.scale, c.colours, c.colours, c.channels, c.blocks)
    if c.generator == "compact":
        return SRVGGNetCompact(c.colours, c.colours, c.channels, c.blocks, c.scale)
    if c.generator == "rrdb":
        return RRDBNet(c.colours, c.colours, c.scale, c.channels, c.blocks, c.growth)
    return SRUGAN(c.scale, c.colours, c.colours, c.channels, c.growth, c.blocks)


def build_content_loss(config: Config) -> nn.Module | None:
    """The perceptual loss of a configuration, or None."""
    if config.content == "none":
        return None
    if config.content == "vgg":
        return ContentLoss(Backbone.vgg(config.backbone), config.phi)
    backbone = Backbone("vgg16", config.backbone)
    return LPIPS(backbone, config.heads or None) if config.content == "lpips" else DISTS(backbone)


def random_windows(images: Tensor, side: int) -> Tensor:
    """[N, C, H, W] -> [N, C, side, side], a window of each image at a random place of its own."""
    rows, columns = (torch.randint(n - side + 1, (len(images),)).tolist() for n in images.shape[-2:])
    windows = [x[:, r : r + side, c : c + side] for x, r, c in zip(images, rows, columns, strict=True)]
    return torch.stack(windows)


def freeze_batch_norm(model: nn.Module) -> None:
    """Trains on with the running statistics, so that training and inference compute the same function."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


class System(nn.Module):
    """A generator trained on pixels, and on a content loss and a frequency loss if the configuration has them.

    Subclasses add a discriminator. Losses come as named, weighted terms; their sum is what is minimised.

    Attributes:
        teacher: a trained network whose images are learned as well, or None.

    Args:
        config: the training.
        classes: number of labels of the data.
    """

    def __init__(self, config: Config, classes: int = 1) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.generator = build_generator(config)
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.upscale = TrainingForward(self.generator)
        self.content = build_content_loss(config)
        self.discriminator: nn.Module | None = None
        self.teacher: nn.Module | None = None

    def _frozen_parts(self) -> list[nn.Module]:
        if not self.config.frozen_blocks:
            return []
        assert isinstance(self.generator, SRResNet)
        return [self.generator.conv1, *list(self.generator.trunk)[: self.config.frozen_blocks]]

    def train(self, mode: bool = True) -> System:
        """Frozen blocks keep their batch statistics too."""
        super().train(mode)
        for part in self._frozen_parts():
            freeze_batch_norm(part)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def trained(self) -> dict[str, nn.Module]:
        """The networks with an optimizer and a state, by name."""
        networks = {"generator": self.generator}
        if self.discriminator is not None:
            networks["discriminator"] = self.discriminator
        return networks

    def generator_terms(self, batch: Batch, fake: Tensor) -> Terms:
        """Weighted terms of the generator's loss."""
        c = self.config
        distance = F.mse_loss if c.pixel == "mse" else F.l1_loss
        terms = {c.pixel: c.pixel_weight * distance(fake, batch.hr)}
        if self.teacher is not None:
            with torch.no_grad():
                taught = self.teacher(batch.lr)
            terms["teacher"] = c.teacher_weight * distance(fake, taught.to(fake.dtype))
        if self.content is not None:
            # The backbones have seen colour pictures only: gray ones are shown to them three times.
            shown = [x if x.shape[1] == 3 else x.expand(-1, 3, -1, -1) for x in (fake, batch.hr)]
            terms[c.content] = c.content_weight * self.content(*shown)
        if c.frequency != "none":
            terms[c.frequency] = c.frequency_weight * FREQUENCY_LOSSES[c.frequency](fake, batch.hr)
        return terms

    def discriminator_terms(self, batch: Batch, fake: Tensor) -> Terms:
        """Weighted terms of the discriminator's loss; ``fake`` carries no gradient."""
        raise NotImplementedError(f"{type(self).__name__} has no discriminator")


class GanSystem(System):
    """SRGAN and ESRGAN: pixel, content, adversarial and frequency terms."""

    def __init__(self, config: Config, classes: int = 1) -> None:
        super().__init__(config, classes)
        self.discriminator = self.build_discriminator()

    def build_discriminator(self) -> nn.Module:
        """Return the discriminator that the settings ask for, with fresh weights."""
        c = self.config
        return SRGANDiscriminator(c.patch * c.scale - c.jitter, c.discriminator_channels, c.discriminator_norm)

    def validity(self, image: Tensor) -> Tensor:
        """Logits of being real, [N]."""
        assert self.discriminator is not None
        if self.config.jitter:
            # The dense layer fixes the window's size, so the place is drawn anew: the network cannot learn pictures
            # by their position.
            image = random_windows(image, self.config.patch * self.config.scale - self.config.jitter)
        logits: Tensor = self.discriminator(image)
        return logits.to(image.dtype)  # of half precision

    def generator_terms(self, batch: Batch, fake: Tensor) -> Terms:
        c = self.config
        terms = super().generator_terms(batch, fake)
        real = None
        if c.adversarial != "standard":
            with torch.no_grad():
                real = self.validity(batch.hr)
        terms["adversarial"] = c.adversarial_weight * adversarial.generator_loss(
            c.adversarial, real, self.validity(fake)
        )
        return terms

    def discriminator_terms(self, batch: Batch, fake: Tensor) -> Terms:
        return self.validity_terms(batch, fake, self.validity(batch.hr), self.validity(fake))

    def validity_terms(self, batch: Batch, fake: Tensor, real_logits: Tensor, fake_logits: Tensor) -> Terms:
        """The discriminator's terms that look at validity alone."""
        c = self.config
        terms = {"real or not": adversarial.discriminator_loss(c.adversarial, real_logits, fake_logits)}
        if c.adversarial == "ragp":
            mix = torch.rand(len(fake), device=fake.device)
            with torch.autocast(fake.device.type, enabled=False):  # second derivatives in float32
                terms["penalty"] = c.penalty_weight * adversarial.gradient_penalty(self.validity, batch.hr, fake, mix)
        return terms
