"""Super-resolution of labelled digits with a classifier's help."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.training.config import Config
from srfast.training.data import Batch
from srfast.training.discriminators import DigitClassifier, DigitDiscriminator
from srfast.training.imresize import imresize
from srfast.training.metrics import psnr_y, ssim_y
from srfast.training.states import load_state, save_state
from srfast.training.systems import GanSystem, Terms

CLASSES = 10
HELD_OUT = 2000


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An array of unsigned bytes in MNIST's idx format, gzipped or not.

    Raises:
        ValueError: not such a file, or cut off.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, axes = struct.unpack(">HBB", content[:4])
        shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    except (struct.error, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not an idx file: {error}") from error
    if zero != 0 or kind != 8 or values.size != int(np.prod(shape)):
        raise ValueError(f"{path} is not an idx file of bytes, or is cut off")
    return values.reshape(shape)


class Digits:
    """Labelled digits and their bicubic LR; the last ``HELD_OUT`` are kept for measuring.

    Args:
        folder: holds one ``*images*`` and one ``*labels*`` idx file.
        scale: 2 or 4.
        colours: 1, or 3 for gray repeated.
        seed: seeds the order.
        side: digits are padded with black to this side, for networks that need multiples of 4 in LR.

    Raises:
        ValueError: the files are missing or do not fit each other.
    """

    classes = CLASSES

    def __init__(self, folder: Path, scale: int, colours: int = 1, seed: int = 0, side: int = 28) -> None:
        files = [sorted(Path(folder).glob(f"*{what}*idx*")) for what in ("images", "labels")]
        if not all(files):
            raise ValueError(f"{folder} holds no *images*idx* and *labels*idx* files, as MNIST has them")
        images, labels = (read_idx(found[0]) for found in files)
        if images.ndim != 3 or len(images) != len(labels) or len(images) <= HELD_OUT:
            raise ValueError(f"{folder}: images {images.shape} and labels {labels.shape} are not over {HELD_OUT} pairs")
        margin = side - images.shape[1]
        images = np.pad(images, ((0, 0), *((margin // 2, margin - margin // 2),) * 2))
        # imresize takes [H, W, C]: all digits at once as channels.
        stack = np.ascontiguousarray(images.transpose(1, 2, 0))
        small = imresize(stack, 1 / scale)
        self.hr, self.lr, self.bicubic = stack, small, imresize(small, scale)
        self.labels, self.colours, self.scale, self.seed = labels.astype(np.int64), colours, scale, seed

    def _tensor(self, stack: npt.NDArray[np.uint8], which: npt.NDArray[np.int64]) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(stack[..., which].transpose(2, 0, 1))).float() / 255
        return images.unsqueeze(1).expand(-1, self.colours, -1, -1).contiguous()

    def select(self, which: npt.NDArray[np.int64]) -> Batch:
        """The digits with these indices."""
        return Batch(self._tensor(self.lr, which), self._tensor(self.hr, which), torch.from_numpy(self.labels[which]))

    def batch(self, size: int, step: int, rank: int = 0) -> Batch:
        """The digits of iteration ``step``; none of those held out."""
        rng = np.random.default_rng([self.seed, rank, step])
        return self.select(rng.integers(0, len(self.labels) - HELD_OUT, size))

    def held_out(self, count: int = HELD_OUT) -> npt.NDArray[np.int64]:
        """Indices of the first ``count`` digits held out."""
        first = len(self.labels) - HELD_OUT
        return np.arange(first, first + count)


def train_classifier(digits: Digits, iterations: int = 500, batch: int = 128) -> DigitClassifier:
    """Trains the classifier on HR digits, as shifted copies; frozen, in eval mode."""
    torch.manual_seed(digits.seed)
    net = DigitClassifier(digits.colours).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=iterations)
    for step in range(iterations):
        b = digits.batch(batch, step)
        shift = torch.randint(-2, 3, (2,)).tolist()
        loss = F.cross_entropy(net(torch.roll(b.hr, shift, (2, 3))), b.label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return net.requires_grad_(False).eval()


def classifier_of(digits: Digits, path: Path) -> nn.Module:
    """The classifier in the file, or a new one that is trained and saved there."""
    net = DigitClassifier(digits.colours)
    if path.exists():
        net.load_state_dict(load_state(path, needs=("classifier",))["classifier"])
    else:
        net = train_classifier(digits)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state({"classifier": net.state_dict()}, path)
    return net.requires_grad_(False).eval()


@torch.no_grad()
def accuracy(classifier: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of digits that the classifier names right."""
    return float((classifier(images).argmax(1) == labels).float().mean())


class DigitSystem(GanSystem):
    """SRGAN on digits; ``class_weight`` times the classifier's cross-entropy on generated digits joins both losses.

    The classifier is frozen, so the term has no gradient in the discriminator: there it only raises the loss that is shown.
    """

    def __init__(self, config: Config, classes: int = CLASSES) -> None:
        super().__init__(config, classes)
        self.classifier: nn.Module | None = None

    def train(self, mode: bool = True) -> DigitSystem:
        """The classifier stays as it was trained: in eval mode."""
        super().train(mode)
        if self.classifier is not None:
            self.classifier.eval()
        return self

    def build_discriminator(self) -> nn.Module:
        """Return the discriminator that tells digits as well, with fresh weights."""
        return DigitDiscriminator(self.config.colours, self.config.discriminator_channels)

    def _class_term(self, batch: Batch, fake: Tensor) -> Terms:
        if self.config.class_weight == 0:
            return {}
        assert self.classifier is not None, "give the system its classifier first"
        return {"class": self.config.class_weight * F.cross_entropy(self.classifier(fake), batch.label)}

    def generator_terms(self, batch: Batch, fake: Tensor) -> Terms:
        return {**super().generator_terms(batch, fake), **self._class_term(batch, fake)}

    def discriminator_terms(self, batch: Batch, fake: Tensor) -> Terms:
        return {**super().discriminator_terms(batch, fake), **self._class_term(batch, fake)}


@torch.no_grad()
def evaluate_digits(generator: nn.Module, classifier: nn.Module, digits: Digits, count: int = 500) -> dict[str, float]:
    """PSNR, SSIM and the classifier's accuracy on bicubic, generated and HR digits that were held out."""
    which = digits.held_out(count)
    batch = digits.select(which)
    device = next(generator.parameters()).device
    generated = generator.eval()(batch.lr.to(device)).clamp(0, 1).mul(255).round().byte().cpu()
    images = [generated[:, 0].numpy(), digits.hr[..., which].transpose(2, 0, 1)]
    pairs = list(zip(*images, strict=True))
    return {
        "psnr": float(np.mean([psnr_y(a, b, 0) for a, b in pairs])),
        "ssim": float(np.mean([ssim_y(a, b, 0) for a, b in pairs])),
        "accuracy_sr": accuracy(classifier, generated.float() / 255, batch.label),
        "accuracy_bicubic": accuracy(classifier, digits._tensor(digits.bicubic, which), batch.label),
        "accuracy_hr": accuracy(classifier, batch.hr, batch.label),
    }
