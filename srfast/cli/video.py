"""``srfast upscale`` for videos."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from srfast.cli.options import UpscaleOptions, VideoOptions, check_frames, is_image, seconds_of_latency, upscaler_from
from srfast.errors import FrameLossError, InputError, OutputError, escaped

if TYPE_CHECKING:
    from srfast.upscaler import Upscaler
    from srfast.video.target import Target


def upscale(options: UpscaleOptions, source: str, target: str, upscaler: Upscaler | None = None) -> int:
    """Runs it; returns 0, or the code of frame loss where the input's damage cost something.

    ``upscaler`` is one that is there already; by default it is loaded.
    """
    from srfast._files import check_output, whole_file
    from srfast.cli.progress import Reporter
    from srfast.video import upscale_video
    from srfast.video.reader import VideoReader
    from srfast.video.report import as_dict, verdict
    from srfast.video.source import can_reopen
    from srfast.video.target import parse_target

    run, overwrite = options.run, options.output.overwrite
    check_frames(run.frames)
    _refuse_one_picture(source, target)
    if run.max_latency is not None:
        from srfast.cli import live

        return live.upscale(options, source, target, seconds_of_latency(run.max_latency))
    place, reading = parse_target(target, options.video.format), options.video.input()
    size: tuple[int, int] | None = None
    if can_reopen(source):  # a bad input or output is reported before a model is loaded
        with VideoReader(source, reading) as reader:
            size = (reader.height, reader.width)
    place.check(source, overwrite)
    if run.report:
        check_output(run.report, overwrite=True)
    if options.video.preview is not None:
        check_output(preview_path(target), overwrite=True)
    upscaler = upscaler or upscaler_from(options.model, "video", options.model.memory(size))
    if options.video.preview is not None:
        write_preview(options.video, source, preview_path(target), upscaler)
    with _interruption(place), Reporter(options.output.progress) as reporter:
        result = upscale_video(
            source,
            target,
            upscaler,
            overwrite=overwrite,
            frames=run.frames,
            resume=run.resume,
            on_progress=lambda p: reporter.update(p.done, p.total, p.seconds, p.resumed),
            **options.video.upscaling(strict=run.strict, reuse=not run.no_reuse),
        )
    print(escaped(f"{place.label}: {verdict(result)} on {upscaler}"), file=sys.stderr)
    if run.report:
        with whole_file(run.report, overwrite=True) as partial:
            partial.write_text(json.dumps(as_dict(result, source, target, upscaler), indent=2) + "\n")
    if result.damage:
        said = f"srfast: error: the input was damaged: {result.damage}; all else is in {place.label}"
        print(escaped(said), file=sys.stderr)
        return FrameLossError.exit_code
    return 0


def preview_path(target: str) -> Path:
    """Where the preview of a target goes: beside it; of the standard output into the working folder."""
    path = Path("preview" if target == "-" else target)
    # Numbered images have a pattern such as %05d in their name, which would make this one numbered too.
    return path.with_name(f"{path.name.replace('%', '')}.preview.png")


def write_preview(video: VideoOptions, source: str, path: Path, upscaler: Upscaler) -> None:
    """Writes the picture of --preview and says where it is."""
    from srfast.images import write_image
    from srfast.video import preview

    assert video.preview is not None
    write_image(path, preview(source, upscaler, video.preview, video.input()), overwrite=True)
    print(escaped(f"srfast: bicubic and srfast side by side: {path}"), file=sys.stderr)


def _refuse_one_picture(source: str, target: str) -> None:
    """A video does not become one picture."""
    from srfast.video.animation import SUFFIXES as ANIMATED
    from srfast.video.animation import is_animation
    from srfast.video.source import can_reopen, is_sequence, label

    suffix = Path(target).suffix.lower()
    if not is_image(target) or (suffix in ANIMATED and (suffix != ".png" or is_animation(Path(source)))):
        return
    if can_reopen(source) and not is_sequence(source) and not Path(source).exists():
        raise InputError(f"{source} is missing")
    raise OutputError(
        f"{target} is one picture, but {label(source)} is a video, or an image in a format that OpenCV cannot read here; "
        "for the frames of a video give numbered images, such as frames/%05d.png"
    )


@contextlib.contextmanager
def _interruption(place: Target) -> Iterator[None]:
    """Says what Ctrl-C leaves behind."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(place.left) from error
