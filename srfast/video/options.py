"""What becomes of a video on its way, whether one machine upscales it or many: the options that these runs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict

from srfast.video.settings import Encoding
from srfast.video.source import COPIED, InputOptions

if TYPE_CHECKING:
    from typing_extensions import Self


class UpscalingKeywords(TypedDict, total=False):
    """The keyword arguments of ``UpscalingOptions``, for the signatures of functions that take them."""

    encoding: Encoding | None
    copy: tuple[str, ...]
    input_options: InputOptions | None
    strict: bool
    reuse: bool


@dataclass(frozen=True)
class UpscalingOptions:
    """How a video is read, computed, encoded, and what comes along: the keyword arguments of ``srfast.upscale_video``,
    ``srfast.cluster.split`` and ``srfast.cluster.upscale``.

    Attributes:
        encoding: codec, quality, pixel format; None is ``Encoding()``.
        copy: kinds of other streams to carry over: of 'audio', 'subtitle', 'attachment', 'data' and 'video'.
        input_options: how to read a source that does not say it itself; None is ``InputOptions()``.
        strict: any damage of the input is an error; else what it cost is in the result's ``damage``.
        reuse: copy what has not changed since the last frame instead of computing it; the result is the same.

    Examples:
        >>> UpscalingOptions(encoding=Encoding("ffv1")).copy
        ('audio', 'subtitle', 'attachment', 'data', 'video')
    """

    encoding: Encoding = field(default_factory=Encoding)
    copy: tuple[str, ...] = COPIED
    input_options: InputOptions = field(default_factory=InputOptions)
    strict: bool = False
    reuse: bool = True

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> Self:
        """Take keyword arguments as a caller gave them; None leaves an option at its default.

        Raises:
            TypeError: one is unknown.
        """
        return cls(**{name: value for name, value in keywords.items() if value is not None})

    @classmethod
    def parted(cls, keywords: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Take those of this class out of keyword arguments; the rest is for ``srfast.load``."""
        own = {one.name for one in fields(cls)}
        return (
            cls.of({name: value for name, value in keywords.items() if name in own}),
            {name: value for name, value in keywords.items() if name not in own},
        )
