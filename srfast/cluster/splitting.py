"""``srfast split``: the plan of a video, made from its packets and its first frame."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srfast._files import check_output
from srfast._version import __version__
from srfast.cluster.cutting import cut
from srfast.cluster.plan import (
    SCHEMA,
    Plan,
    Reading,
    SourceFile,
    encoder_as_json,
    parse_plan,
    segments_folder,
    write_plan,
)
from srfast.errors import InputError, OutputError
from srfast.upscaler import LoadKeywords, Upscaler, load
from srfast.video.arrangement import arrange
from srfast.video.options import UpscalingKeywords, UpscalingOptions
from srfast.video.reader import VideoReader
from srfast.video.settings import FORMATS, Encoding, container_format
from srfast.video.source import can_reopen, is_sequence, label
from srfast.video.target import FileTarget

if TYPE_CHECKING:
    from typing_extensions import Unpack

_log = logging.getLogger("srfast")
SECONDS = 10.0  # of a segment at least: shorter ones cost key frames, and time to begin each


class SegmentedKeywords(UpscalingKeywords, LoadKeywords, total=False):
    """How a video is upscaled in segments, and by what network: the arguments that ``split`` and ``upscale`` share."""


def split(
    source: str | os.PathLike[str],
    plan: str | os.PathLike[str],
    model: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = "compact_x4",
    *,
    container: str | None = None,
    seconds: float = SECONDS,
    overwrite: bool = False,
    **options: Unpack[SegmentedKeywords],
) -> Plan:
    """Write the plan of a video that is upscaled in segments, on any number of machines.

    The cuts are key frames of the container, found without decoding. A video that cannot be cut there is one segment.

    Args:
        source: a file.
        plan: the file to write, which ``run_segment`` and ``join`` take.
        model: what ``srfast.load`` takes; paths of checkpoints have to be there on every machine.
        container: of the output, such as 'mkv'; by default the source's, or Matroska where srfast does not write that.
        seconds: the least length of a segment.
        overwrite: replace a plan that exists.
        **options: those of ``UpscalingOptions``, as ``srfast.upscale_video`` takes them, and those of ``srfast.load``.

    Returns:
        The plan.

    Raises:
        ValueError: ``seconds`` is no positive number, or the model is no path or name.
        InputError: the source is no file that can be read.
        OutputError: the plan cannot be written, or the encoder or the container refuses.

    Examples:
        >>> import tempfile
        >>> import srfast
        >>> from srfast import cluster
        >>> folder = Path(tempfile.mkdtemp())
        >>> clip = Path(srfast.__file__).parent / "assets" / "clip.mp4"
        >>> plan = cluster.split(clip, folder / "plan.json", "compact_x2", device="cpu")
        >>> len(plan.segments)
        1
    """
    path = Path(plan)
    check_output(path, overwrite)
    how, network = UpscalingOptions.parted(options)
    upscaler = load(model, **network)
    container = container or usual_container(source)
    made = make_plan(source, upscaler, described(model, network), how, container=container, seconds=seconds)
    write_plan(made, path, overwrite)
    folder = segments_folder(path)
    folder.mkdir(exist_ok=True)
    return made


def make_plan(
    source: str | os.PathLike[str],
    upscaler: Upscaler,
    network: dict[str, Any],
    how: UpscalingOptions,
    *,
    container: str,
    seconds: float = SECONDS,
) -> Plan:
    """The plan, without writing it; ``network`` is what loads ``upscaler``. Arguments and errors are those of ``split``."""
    if isinstance(seconds, bool) or not 0 < seconds < math.inf:
        raise ValueError(f"a segment takes a positive number of seconds, not {seconds!r}")
    if not can_reopen(source) or is_sequence(source):
        raise InputError(f"{label(source)} cannot be split: segments are read from a file; upscale it in one run")
    kind = container_format("", container)
    if kind not in FORMATS.values():
        raise OutputError(f"a joined video cannot be {kind}; give one of {', '.join(sorted(set(FORMATS.values())))}")
    place = FileTarget(Path("out" + next(suffix for suffix, name in FORMATS.items() if name == kind)))
    upscaler.check_takes_video()
    encoding, options = how.encoding, how.input_options
    with VideoReader(source, options, strict=how.strict) as reader:
        settings = arrange(reader, place, upscaler, how, source).settings
        segments, whole = cut(reader, seconds)
    if whole:
        _log.warning("%s is one segment: %s", label(source), whole)
    reading = Reading(
        options.format,
        dict(options.options),
        options.hwaccel,
        options.deinterlace,
        options.start,
        options.end,
        how.strict,
    )
    made = Plan(
        schema=SCHEMA,
        srfast=__version__,
        source=SourceFile.of(source),
        reading=reading,
        network=network,
        fingerprint=upscaler.fingerprint,
        reuse=how.reuse,
        container=kind,
        copy=sorted(how.copy),
        encoding=Encoding(encoding.codec, encoding.crf, encoding.pix_fmt, dict(encoding.options)),
        encoder=encoder_as_json(settings),
        seconds=float(seconds),
        whole=whole,
        segments=segments,
    )
    # As every machine reads it: a crf of 18 is one of 18.0 there, and both have one digest.
    return parse_plan(made.to_json())


def usual_container(source: str | os.PathLike[str]) -> str:
    """The container of a source by its suffix, where srfast writes it; else Matroska."""
    return FORMATS.get(Path(source).suffix.lower(), "matroska")


def described(model: Any, network: dict[str, Any]) -> dict[str, Any]:
    """What ``srfast.load`` takes, in JSON's types: paths of files absolute, dtypes and devices by name.

    Raises:
        ValueError: something cannot be written down, such as a module.
    """
    several = model if isinstance(model, (list, tuple)) else [model]
    if not all(isinstance(one, (str, os.PathLike)) for one in several):
        raise ValueError("a plan names its model: give the path of a checkpoint or the name of a shipped model")
    made: dict[str, Any] = {"model": [_absolute(one) for one in several]}
    for key, value in network.items():
        if value is None:
            continue
        if isinstance(value, (bool, int, float, str)):
            made[key] = value
        elif key == "size":
            made[key] = [int(side) for side in value]
        elif key in ("dtype", "device"):
            made[key] = str(value).removeprefix("torch.")
        else:
            raise ValueError(f"a plan cannot hold {key}={value!r:.60}")
    return made


def _absolute(model: str | os.PathLike[str]) -> str:
    return os.path.abspath(model) if Path(model).exists() else os.fspath(model)
