"""What a training is: one frozen configuration."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from srfast.training.adversarial import KINDS
from srfast.training.degradation import DEGRADATIONS
from srfast.training.frequency import FREQUENCY_LOSSES

CHOICES = {
    "system": ("psnr", "gan", "digits", "ugan"),
    "generator": ("srresnet", "compact", "rrdb", "ugan", "digits"),
    "degradation": DEGRADATIONS,
    "schedule": ("constant", "steps", "cosine"),
    "pixel": ("mse", "l1"),
    "content": ("none", "vgg", "lpips", "dists"),
    "adversarial": KINDS,
    "frequency": ("none", *FREQUENCY_LOSSES),
    "discriminator_norm": ("batch", "none"),
    "amp": ("no", "bf16", "fp16"),
}


@dataclass(frozen=True)
class Config:
    """A training, without its folders.

    Attributes:
        system: which losses and networks play together.
        generator, scale, colours, channels, blocks, growth: the network; ``growth`` is of dense blocks only.
        degradation: how LR images are made: MATLAB's "bicubic", a "gaussian" filter, or "footage", what videos suffer.
        patch: side of the LR patch, pixels.
        iterations, batch: length, and patches in each iteration and process.
        lr, lr_discriminator: peak learning rates of Adam.
        schedule, milestones, gamma: "steps" multiplies by ``gamma`` at each milestone (iterations); "cosine" warms up over
            2% of the run and falls to 1% of the peak.
        period: iterations of one cosine, after which it starts again from the peak (warm restarts: Loshchilov and Hutter
            2017, https://arxiv.org/abs/1608.03983); 0 for the whole run. A run with a period can be made longer later.
        betas: of Adam.
        clip: largest gradient norm, 0 for none.
        ema: decay of the weight average, which is what is evaluated and exported.
        freeze_norm: share of the run after which batch normalisation keeps its running statistics; 1 for never.
        frozen_blocks: first residual blocks of SRResNet, with all before them, that stay as they started; no gradient is
            computed for them.
        pixel, pixel_weight, content, content_weight, adversarial, adversarial_weight, frequency, frequency_weight: the terms
            of the generator's loss.
        phi: i and j of the VGG content loss, one pair after another: (5, 4), or (5, 3, 2, 2) for a sum over two layers.
        backbone: file of the content loss's backbone, VGG16 or (for "vgg" alone) VGG19, or "random".
        heads: file of the LPIPS heads; empty for the ones in torchmetrics.
        teacher, teacher_weight: checkpoint or shipped model whose images are learned as well, by the distance ``pixel``; a larger
            network trained on the same pictures shows what can be known of them (Hinton et al. 2015,
            https://arxiv.org/abs/1503.02531).
        expansion: Compact trains with branches of this many times its channels, which fold into the same network; 0 for none.
            See ``reparameterise``.
        penalty_weight: lambda of the gradient penalty ("ragp").
        class_weight: weight of the classifier's (digits) or the class head's (SR-UGAN) cross-entropy.
        discriminator_channels, discriminator_norm: see ``discriminators``.
        discriminator_first: iterations in which the discriminator trains alone. One that knows nothing yet leads a trained
            generator astray.
        jitter: SRGAN's discriminator sees windows that are this many pixels smaller than the patch, each at a random place. One
            that knows where the upsampling grid lies draws that grid into the image (translation as in Zhao et al. 2020,
            https://arxiv.org/abs/2006.10738).
        amp: autocast type; "fp16" scales gradients.
        seed: seeds everything; iteration n of two runs with one configuration sees the same data.
        save_every, log_every: iterations between states and between log lines.

    Raises:
        ValueError: a value that cannot be trained with.
    """

    system: str = "psnr"
    generator: str = "srresnet"
    scale: int = 4
    colours: int = 3
    channels: int = 64
    blocks: int = 16
    growth: int = 32
    degradation: str = "bicubic"
    patch: int = 24
    iterations: int = 10_000
    batch: int = 16
    lr: float = 1e-4
    lr_discriminator: float = 1e-4
    schedule: str = "constant"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    period: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 0.0
    ema: float = 0.999
    freeze_norm: float = 1.0
    frozen_blocks: int = 0
    pixel: str = "mse"
    pixel_weight: float = 1.0
    content: str = "none"
    content_weight: float = 1.0
    phi: tuple[int, ...] = (5, 4)
    backbone: str = ""
    heads: str = ""
    adversarial: str = "standard"
    adversarial_weight: float = 1e-3
    penalty_weight: float = 10.0
    frequency: str = "none"
    frequency_weight: float = 1.0
    class_weight: float = 0.0
    discriminator_channels: int = 64
    discriminator_norm: str = "batch"
    discriminator_first: int = 0
    jitter: int = 0
    teacher: str = ""
    teacher_weight: float = 1.0
    expansion: int = 0
    amp: str = "no"
    seed: int = 0
    save_every: int = 1000
    log_every: int = 50

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, not {value!r}")
        for name in ("scale", "channels", "patch", "iterations", "batch", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.period < 0 or self.expansion < 0:
            raise ValueError(f"period and expansion are 0 or more, not {self.period} and {self.expansion}")
        if self.expansion and self.generator != "compact":
            raise ValueError(f"expansion is for the generator compact, not {self.generator!r}")
        if self.discriminator_first < 0:
            raise ValueError(f"discriminator_first is a number of iterations, not {self.discriminator_first}")
        if not 0 <= self.jitter < self.patch * self.scale:
            raise ValueError(f"jitter is 0 to {self.patch * self.scale - 1}, not {self.jitter}")
        if not 0 <= self.frozen_blocks <= self.blocks:
            raise ValueError(f"frozen_blocks is 0 to {self.blocks}, not {self.frozen_blocks}")
        if self.frozen_blocks and self.generator not in ("srresnet", "digits"):
            raise ValueError(f"frozen_blocks counts residual blocks, which the generator {self.generator!r} has not")
        if self.content != "none" and not self.backbone:
            raise ValueError(
                f"the content loss {self.content!r} needs a backbone: give the path of a file in torchvision's layout "
                "(backbone=FILE), 'random' for untrained features, or content=none"
            )

    def changed(self, assignments: Sequence[str]) -> Config:
        """A copy with ``name=value`` applied, each value read as the type of its field.

        Raises:
            ValueError: no such field, or a value of another type.
        """
        kinds = {f.name: type(getattr(self, f.name)) for f in fields(self)}
        values = {}
        for assignment in assignments:
            name, _, text = assignment.partition("=")
            if name not in kinds:
                raise ValueError(f"there is no setting {name!r}; there are {', '.join(kinds)}")
            values[name] = _parse(name, text, kinds[name])
        return replace(self, **values)  # type: ignore[arg-type]


def _parse(name: str, text: str, kind: type) -> object:
    if kind is str:
        return text
    try:
        value = ast.literal_eval(text)
        given = kind(value if kind is not tuple or isinstance(value, tuple) else (value,))
        if kind is int and given != value:
            raise ValueError("not a whole number")
        return given
    except (ValueError, SyntaxError, TypeError, OverflowError) as error:
        raise ValueError(f"{name} takes a value like {kind.__name__}, not {text!r}") from error
