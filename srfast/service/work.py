"""What a service does with uploads: an image into an image, a job into its result, a frame into a picture before the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from srfast._files import whole_file
from srfast.errors import InputError
from srfast.images import check_size, declared_size, encode_image, picture_of
from srfast.images.arrays import Array, eight_bits
from srfast.images.declared import FORMATS
from srfast.service.config import Request, ServiceOptions
from srfast.service.engines import Engines
from srfast.service.jobs import Job
from srfast.video import InputOptions, upscale_video
from srfast.video.arrangement import arrange
from srfast.video.options import UpscalingOptions
from srfast.video.preview import first_frame
from srfast.video.reader import VideoReader
from srfast.video.target import FileTarget
from srfast.video.untrusted import NAMES, LimitError, NoVideoError

if TYPE_CHECKING:
    from srfast.upscaler import Upscaler

_SHOWN = (360, 640)  # height and width of the part of a frame that is shown before a run, in input pixels


def upscale_image(data: bytes, name: str, request: Request, options: ServiceOptions, engines: Engines) -> bytes:
    """Make an image file of an image file.

    Args:
        data: the file's bytes.
        name: of the upload, for messages.
        request: model, enlargement and format.
        options: of the service, with its limits.
        engines: of this thread.

    Returns:
        The bytes of the larger image's file, with the colour profile and metadata of the first.

    Raises:
        InputError: it cannot be read, or is larger than what is allowed.
        OutputError: the format cannot hold the result.

    Examples:
        >>> small = cv2.imencode(".png", np.zeros((8, 12, 3), np.uint8))[1].tobytes()
        >>> options = ServiceOptions(Path("jobs"), device="cpu")
        >>> large = upscale_image(small, "a.png", Request("compact_x2", suffix="png"), options, Engines(options))
        >>> cv2.imdecode(np.frombuffer(large, np.uint8), cv2.IMREAD_COLOR).shape
        (16, 24, 3)
    """
    options.limits.check_size(*declared_size(data, name), name)
    picture = picture_of(np.frombuffer(data, np.uint8), name)
    upscaler, target = engines.get(request), Path(f"result.{request.suffix}")
    check_size(target, *upscaler.output_size(*picture.image.shape[:2]))
    return encode_image(target, upscaler(picture.image), picture.metadata)


@dataclass(frozen=True)
class Seen:
    """Hold what an upload's header says.

    Attributes:
        kind: 'image' or 'video', by the content.
        height, width: in pixels.
        seconds: of a video; 0 where the container does not say.
    """

    kind: Literal["image", "video"]
    height: int
    width: int
    seconds: float = 0.0


def look(path: Path, options: ServiceOptions) -> Seen:
    """Look at an upload's header.

    Args:
        path: the upload.
        options: of the service, with its limits.

    Raises:
        InputError: it is neither an image nor a video that is taken, or is larger or longer than what is allowed.

    Examples:
        >>> _ = cv2.imwrite("small.png", np.zeros((8, 12, 3), np.uint8))
        >>> look(Path("small.png"), ServiceOptions(Path("jobs")))
        Seen(kind='image', height=8, width=12, seconds=0.0)
    """
    if _is_image(path):
        height, width = declared_size(_image_bytes(path, path.name, options), path.name)
        options.limits.check_size(height, width, path.name)
        return Seen("image", height, width)
    try:
        with VideoReader(path, InputOptions(untrusted=options.limits)) as reader:
            seconds = reader.expected_frames / float(reader.rate) if reader.rate else 0.0
            return Seen("video", reader.height, reader.width, seconds)
    except NoVideoError as error:
        raise NoVideoError(
            f"{path.name} is neither an image nor a video that is taken here; {FORMATS} are, and {NAMES}"
        ) from error


def _is_image(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(16)
    return head.startswith((b"\x89PNG", b"\xff\xd8", b"BM")) or head[8:12] == b"WEBP"


def _image_bytes(path: Path, name: str, options: ServiceOptions) -> bytes:
    size = path.stat().st_size
    if size > options.image_bytes:
        raise LimitError(f"{name} has {size} bytes; at most {options.image_bytes} are allowed of an image")
    return path.read_bytes()


def check_job(path: Path, kind: str, request: Request, options: ServiceOptions, engines: Engines) -> None:
    """Refuse, before a job is queued, what its run would end in: it is rehearsed as far as that takes no frame of the network.

    Args:
        path: the upload.
        kind: 'image' or 'video'.
        request: what is to be done.
        options: of the service.
        engines: of this thread.

    Raises:
        InputError: the upload cannot be read, or is larger or longer than what is allowed.
        OutputError: the format or the container cannot hold the result, or the encoder does not take it.
    """
    upscaler, target = engines.get(request), Path(f"result.{request.suffix}")
    if kind == "image":
        seen = look(path, options)
        check_size(target, *upscaler.output_size(seen.height, seen.width))
        return
    how = UpscalingOptions(encoding=request.encoding(), input_options=InputOptions(untrusted=options.limits))
    with VideoReader(path, how.input_options) as reader:
        arrange(reader, FileTarget(target), upscaler, how, path)


def do_job(
    job: Job,
    source: Path,
    target: Path,
    tell: Callable[[int, int, float], None],
    options: ServiceOptions,
    engines: Engines,
) -> str:
    """Do a job to its end, from its start or from where it was.

    Args:
        job: what is to be done.
        source: the upload.
        target: where the result goes.
        tell: is given frames done, frames in all and frames per second, and may raise to end the job.
        options: of the service.
        engines: of this thread.

    Returns:
        What is to be said of the result, such as damage of the input; empty as a rule.

    Raises:
        SrfastError: it cannot be done.
    """
    if target.exists():  # it has its name only when it is whole: the process ended before it could say so
        return ""
    if job.kind == "image":
        tell(0, 1, 0.0)
        data = _image_bytes(source, job.name, options)
        content = upscale_image(data, job.name, job.request, options, engines)
        with whole_file(target, overwrite=False) as partial:
            partial.write_bytes(content)
        tell(1, 1, 0.0)
        return ""
    result = upscale_video(
        source,
        target,
        engines.get(job.request),
        encoding=job.request.encoding(),
        resume=True,
        input_options=InputOptions(untrusted=options.limits),
        on_progress=lambda state: tell(state.done, state.total, state.fps),
    )
    return f"the input was damaged: {result.damage}" if result.damage else ""


def before_and_after(
    path: Path, kind: str, seconds: float, request: Request, options: ServiceOptions, engines: Engines
) -> tuple[Array, Array]:
    """Show what a run would do: a part of a frame, enlarged by interpolation and by the network.

    Args:
        path: the upload.
        kind: 'image' or 'video'.
        seconds: when the frame is shown; of an image not used.
        request: what the run would do.
        options: of the service.
        engines: of this thread.

    Returns:
        Two pictures of one size, [H, W, 3] RGB of uint8: bicubic interpolation, and the network's.

    Raises:
        InputError: the upload cannot be read, or has no frame at that time.
    """
    image = _image(path, options) if kind == "image" else _frame(path, seconds, options)
    height, width = image.shape[:2]
    tall, wide = min(height, _SHOWN[0]), min(width, _SHOWN[1])
    top, left = (height - tall) // 2, (width - wide) // 2
    part = np.ascontiguousarray(image[top : top + tall, left : left + wide])
    upscaler: Upscaler = engines.get(request)
    ours = np.asarray(upscaler(part))
    plain = cv2.resize(part, (ours.shape[1], ours.shape[0]), interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(plain, cv2.COLOR_BGR2RGB), cv2.cvtColor(ours, cv2.COLOR_BGR2RGB)


def _image(path: Path, options: ServiceOptions) -> Array:
    """[H, W, 3] BGR of uint8."""
    data = _image_bytes(path, path.name, options)
    options.limits.check_size(*declared_size(data, path.name), path.name)
    image = eight_bits(picture_of(np.frombuffer(data, np.uint8), path.name).image)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else np.ascontiguousarray(image[..., :3])


def _frame(path: Path, seconds: float, options: ServiceOptions) -> Array:
    reading = InputOptions(untrusted=options.limits)
    try:
        with VideoReader(path, replace(reading, start=seconds or None)) as reader:
            return first_frame(reader)[0]
    except InputError:
        if not seconds:
            raise
    with VideoReader(path, reading) as reader:  # after its last frame
        return first_frame(reader)[0]
