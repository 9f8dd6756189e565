"""What a service offers and allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srfast.errors import InputError
from srfast.video.settings import Encoding
from srfast.video.untrusted import Limits

SHIPPED = (
    "compact_x2",
    "compact_x4",
    "compact_footage_x2",
    "compact_footage_x4",
    "srresnet_x2",
    "srresnet_x4",
    "srgan_x4",
)
CODECS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks")
CONTAINERS = ("mp4", "mkv", "webm", "mov")
IMAGES = ("png", "jpg", "webp")
LARGEST_SCALE = 4.0


@dataclass(frozen=True)
class ServiceOptions:
    """Say what a service offers and allows.

    Attributes:
        folder: where jobs live; made if missing.
        models: checkpoints beside the shipped ones, by the names that clients give.
        device: as for ``srfast.load``.
        limits: on videos; those of pixels also hold for images.
        video_bytes: of an uploaded video.
        image_bytes: of an uploaded image.
        images_waiting: images in work or waiting at most; more are answered with 429.
        jobs_waiting: jobs in work or waiting at most; more are answered with 429.
        keep_hours: after which a job that has ended is deleted with its files.
        idle_seconds: after which an upload that stands still is given up.
        sources: folders whose files the page may be given by name.

    Examples:
        >>> options = ServiceOptions(Path("jobs"), models={"mine": "mine.safetensors"}, images_waiting=4)
        >>> options.names[-1]
        'mine'
    """

    folder: Path
    models: dict[str, str] = field(default_factory=dict)
    device: str | None = None
    limits: Limits = field(default_factory=Limits)
    video_bytes: int = 1 << 30
    image_bytes: int = 32 << 20
    images_waiting: int = 16
    jobs_waiting: int = 16
    keep_hours: float = 24.0
    idle_seconds: float = 30.0
    sources: tuple[Path, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models that clients may ask for: the shipped ones, then the service's own."""
        return (*SHIPPED, *self.models)


@dataclass(frozen=True)
class Request:
    """Say what is to be done with an upload, in values that a client may choose.

    Attributes:
        model: one of the service's names.
        scale: final enlargement, above 0 and up to 4; None is the model's own.
        codec, crf: of a video, the quality above 0 and up to 63; None is the container's usual.
        suffix: of the result, without a dot: a container, or an image format.

    Examples:
        >>> Request("compact_x2", suffix="mkv").encoding().codec is None
        True
    """

    model: str
    scale: float | None = None
    codec: str | None = None
    crf: float | None = None
    suffix: str = "mp4"

    def check(self, options: ServiceOptions, suffixes: tuple[str, ...]) -> None:
        """Refuse what the service does not offer.

        Args:
            options: of the service.
            suffixes: that a result of this kind may have.

        Raises:
            InputError: a value is none of those that are offered.

        Examples:
            >>> Request("compact_x2", suffix="exe").check(ServiceOptions(Path("jobs")), IMAGES)
            Traceback (most recent call last):
            srfast.errors.InputError: no format is called 'exe' here; one of png, jpg, webp is
        """
        for name, value, offered in (
            ("model", self.model, options.names),
            ("codec", self.codec, (None, *CODECS)),
            ("format", self.suffix, suffixes),
        ):
            if value not in offered:
                known = ", ".join(str(one) for one in offered if one is not None)
                raise InputError(f"no {name} is called {str(value)[:60]!r} here; one of {known} is")
        for name, number, most in (("scale", self.scale, LARGEST_SCALE), ("crf", self.crf, 63.0)):
            if number is not None and not 0 < number <= most:
                raise InputError(f"{name} takes a number above 0 up to {most:g}, not {number!r}")

    def encoding(self) -> Encoding:
        """Return how a video's result is encoded."""
        return Encoding(self.codec, self.crf)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Request:
        """Make a request of what ``asdict`` made of one."""
        return cls(**values)
