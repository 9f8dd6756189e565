"""Options that several commands share: how they are parsed, and the values that a command works with."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from srfast._names import openable
from srfast.errors import InputError

if TYPE_CHECKING:
    from srfast.upscaler import Upscaler
    from srfast.video import Encoding, InputOptions
    from srfast.video.options import UpscalingKeywords

# Networks by use: the compact one for video, the better and slower one for images; up to x2 the compact one is the better.
DEFAULT_MODELS = {"video": "compact_x4", "image": "srresnet_x4"}
DEFAULT_X2 = "compact_x2"
COPIED = ("audio", "subtitle", "attachment", "data", "video")

_LEFT_OUT = {"video": "further video", "attachment": "attached files and cover"}
T = TypeVar("T")


class Kind(Enum):
    """What an upscaling has to do with: its label is how messages call it."""

    IMAGE = "an image"
    FOLDER = "a folder"
    FILES = "several files"
    VIDEO = "a video"
    LIVE = "a live video"
    RAY = "a run on Ray"

    @property
    def label(self) -> str:
        """In words."""
        return self.value


@dataclass(frozen=True)
class ModelOptions:
    """The network and where it runs, as the command line says it; None and 'auto' leave it to srfast."""

    model: list[str] | None = None
    outscale: float | None = None
    size: tuple[int, int] | None = None
    height: int | None = None
    model_scale: int | None = None
    act: str | None = None
    res_scale: float | None = None
    tile: str = "auto"
    backend: str = "auto"
    device: str | None = None
    gpu_id: int | None = None
    dtype: str | None = None
    fp32: bool = False
    max_memory: str | None = None
    self_ensemble: bool = False

    def memory(self, frame: tuple[int, int] | None) -> int | None:
        """Bytes that the engine may take by --max-memory for frames of a height and width, None where these are unknown."""
        from srfast.video.memory import engine_budget

        return engine_budget(size_in_bytes(self.max_memory), frame, self.outscale) if self.max_memory else None


@dataclass(frozen=True)
class VideoOptions:
    """How a video is read and encoded, as the command line says it."""

    codec: str | None = None
    crf: float | None = None
    pix_fmt: str | None = None
    encoder_option: tuple[str, ...] = ()
    format: str | None = None
    input_format: str | None = None
    input_option: tuple[str, ...] = ()
    deinterlace: bool = False
    deinterlace_fields: bool = False
    hwaccel: str | None = None
    start: float | None = None
    end: float | None = None
    preview: int | None = None
    no_copy_audio: bool = False
    no_copy_subtitle: bool = False
    no_copy_attachment: bool = False
    no_copy_data: bool = False
    no_copy_video: bool = False

    def encoding(self) -> Encoding:
        """How to encode."""
        from srfast.video import Encoding

        options = dict(key_value(text) for text in self.encoder_option)
        return Encoding(self.codec, self.crf, self.pix_fmt, options, self.format)

    def input(self) -> InputOptions:
        """How to read the input."""
        from srfast.video import InputOptions

        options = dict(key_value(text) for text in self.input_option)
        fields: bool | Literal["field"] = "field" if self.deinterlace_fields else self.deinterlace
        return InputOptions(self.input_format, options, self.hwaccel, fields, self.start, self.end)

    def copied(self) -> tuple[str, ...]:
        """Kinds of streams to copy."""
        return tuple(kind for kind in COPIED if not getattr(self, f"no_copy_{kind}"))

    def upscaling(self, *, strict: bool = False, reuse: bool = True) -> UpscalingKeywords:
        """What ``srfast.upscale_video`` takes for these and for two options of the run."""
        made: UpscalingKeywords = {"encoding": self.encoding(), "copy": self.copied(), "input_options": self.input()}
        return {**made, "strict": strict, "reuse": reuse}


@dataclass(frozen=True)
class RunOptions:
    """How a run of a video goes, as the command line says it."""

    frames: int | None = None
    resume: bool = False
    strict: bool = False
    no_reuse: bool = False
    report: Path | None = None
    max_latency: str | None = None
    lighter: str | None = None


@dataclass(frozen=True)
class RayOptions:
    """Where a run on Ray goes, as the command line says it; ``ray`` is an address, or nothing for this machine."""

    ray: str | None = None
    ray_gpus: float | None = None
    ray_cpus: float | None = None
    ray_workers: int | None = None


@dataclass(frozen=True)
class OutputOptions:
    """How results are named and told of, as the command line says it."""

    overwrite: bool = False
    suffix: str = ""
    ext: str | None = None
    progress: Literal["bar", "json", "none"] = "bar"


@dataclass(frozen=True)
class UpscaleOptions:
    """All options of ``srfast upscale`` but its inputs and its output."""

    model: ModelOptions = ModelOptions()
    video: VideoOptions = VideoOptions()
    run: RunOptions = RunOptions()
    output: OutputOptions = OutputOptions()
    cluster: RayOptions = RayOptions()

    @classmethod
    def of(cls, args: argparse.Namespace) -> UpscaleOptions:
        """Those of a parsed command line."""
        return cls(
            options_of(ModelOptions, args),
            options_of(VideoOptions, args),
            options_of(RunOptions, args),
            options_of(OutputOptions, args),
            options_of(RayOptions, args),
        )

    def given(self) -> list[str]:
        """The names of the options that are not at their defaults."""
        groups = (self.model, self.video, self.run, self.output, self.cluster)
        return [f.name for group in groups for f in fields(group) if getattr(group, f.name) != f.default]


def options_of(kind: type[T], args: argparse.Namespace) -> T:
    """A frozen group of options from a parsed command line, whose destinations are the names of its fields."""
    # Every field must be an option's destination: a misspelt one fails at the first command and not when it is needed.
    values = {f.name: getattr(args, f.name) for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


class _Replace(argparse.Action):
    """Makes the value the only one of a list, so that a script's own option gives way to one that is added to it."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        setattr(namespace, self.dest, [values])


def add_model(p: argparse.ArgumentParser) -> None:
    """The network and where it runs: ``ModelOptions``."""
    model = p.add_argument_group("model")
    model.add_argument(
        *("-n", "--model_name", "--model-name"),
        dest="model",
        action=_Replace,
        help="a shipped model's name (see 'srfast info') or a checkpoint file; given again, the last counts",
    )
    model.add_argument(
        *("-m", "--model", "--model_path", "--model-path"),
        dest="model",
        action="append",
        help="the same; given again, another that runs after it",
    )
    model.add_argument(
        "--self-ensemble",
        action="store_true",
        help="average the results of eight orientations, for images, 8 times as slow",
    )
    model.add_argument("-s", "--outscale", type=enlargement, help="final enlargement; the model's own by default")
    model.add_argument(
        "--size", type=frame_size, metavar="WxH", help="final width and height in pixels, such as 1920x1080"
    )
    model.add_argument("--height", type=int, metavar="H", help="final height in pixels; the width follows")
    add_hints(model, "--model-scale")
    add_engine(p)


def add_engine(p: argparse.ArgumentParser) -> None:
    """Where the network runs."""
    engine = p.add_argument_group("engine")
    engine.add_argument("-t", "--tile", default="auto", help="tile side in input pixels, 0 for none, auto (default)")
    engine.add_argument(
        "--backend", default="auto", help="auto (default), triton, gluon, cuda, mixed, trunk, cpu or reference"
    )
    engine.add_argument("--device", help="cpu, cuda, cuda:1, ...; the first GPU by default")
    engine.add_argument("-g", "--gpu-id", "--gpu_id", type=int, help="number of the GPU")
    engine.add_argument("--dtype", choices=["fp16", "bf16", "fp32"], help="the fastest that is exact enough by default")
    engine.add_argument("--fp32", action="store_true", help="the same as --dtype fp32")
    engine.add_argument("--max-memory", metavar="SIZE", help="of the whole process, such as 2G; tiles shrink to fit")


def add_hints(p: Any, *scale: str) -> None:
    """What the keys of a checkpoint may leave open; ``scale`` are the names of the option for the network's own."""
    p.add_argument(
        *scale,
        dest="model_scale",
        type=int,
        help="the network's own enlargement, where its keys leave it open (3 instead of 2)",
    )
    p.add_argument("--act", choices=["relu", "leakyrelu"], help="of an SRVGGNetCompact without slopes; relu by default")
    p.add_argument("--res-scale", type=float, help="gain of EDSR's blocks; as published by default")


def enlargement(text: str) -> float:
    """A positive, finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"takes a positive number such as 2 or 1.5, not {text!r}")
    return value


def frame_size(text: str) -> tuple[int, int]:
    """Width and height of '1920x1080'."""
    match = re.fullmatch(r"(\d{1,7})x(\d{1,7})", text.strip().lower())
    if not match or not int(match[1]) or not int(match[2]):
        raise argparse.ArgumentTypeError(f"takes a width and a height such as 1920x1080, not {text!r}")
    return int(match[1]), int(match[2])


def time_of_day(text: str) -> float:
    """Seconds of '90', '90.5', '90.5s', '1:30' or '1:02:03.5'."""
    match = re.fullmatch(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d+)?)s?", text.strip())
    if not match or (match[2] and float(match[3]) >= 60):
        raise argparse.ArgumentTypeError(f"takes seconds such as 90.5, or a time such as 1:02:03.5, not {text!r}")
    return 3600 * int(match[1] or 0) + 60 * int(match[2] or 0) + float(match[3])


def add_video(p: argparse.ArgumentParser) -> None:
    """How a video is read and encoded: ``VideoOptions``."""
    video = p.add_argument_group("video")
    video.add_argument("-c", "--codec", help="encoder, such as libx264 (default), libx265, libsvtav1, ffv1, h264_nvenc")
    video.add_argument("--crf", type=float, help="constant quality of the encoder; 18 for libx264 by default")
    video.add_argument("--pix-fmt", "--pix_fmt", help="pixel format; the input's by default")
    video.add_argument(
        "-e", "--encoder-option", action="append", default=[], metavar="K=V", help="further encoder option"
    )
    video.add_argument(
        "-f", "--format", help="format of the standard output: y4m (default for video), rawvideo, mkv, png, ..."
    )
    video.add_argument(
        "--input-format", help="demuxer of the input, such as rawvideo; found from the content by default"
    )
    video.add_argument(
        "--input-option",
        action="append",
        default=[],
        metavar="K=V",
        help="demuxer option, such as video_size=320x240, pixel_format=yuv420p or framerate=25 for rawvideo",
    )
    video.add_argument("--deinterlace", action="store_true", help="make whole frames of interlaced ones first (bwdif)")
    video.add_argument(
        "--deinterlace-fields", action="store_true", help="the same, a frame of each field: 25i becomes 50p"
    )
    video.add_argument(
        "--from", dest="start", type=time_of_day, metavar="TIME", help="begin there: seconds, or as 1:02:03.5"
    )
    video.add_argument("--to", dest="end", type=time_of_day, metavar="TIME", help="end before that time of the input")
    video.add_argument(
        "--preview",
        type=int,
        metavar="N",
        help="first write N frames beside their bicubic enlargements: OUT.preview.png",
    )
    video.add_argument("--hwaccel", help="hardware decoder: cuda, vaapi, qsv, videotoolbox, ...")
    for kind in COPIED:
        video.add_argument(
            f"--no-copy-{kind}", action="store_true", help=f"leave {_LEFT_OUT.get(kind, kind)} streams out"
        )


def default_model(kind: str, outscale: float | None) -> str:
    """Name of the shipped network for a 'video' or an 'image' and a final enlargement."""
    return DEFAULT_X2 if outscale is not None and outscale <= 2 else DEFAULT_MODELS[kind]


def upscaler_from(options: ModelOptions, kind: str, memory: int | None = None) -> Upscaler:
    """The upscaler that the options describe, for a 'video' or an 'image'; ``memory`` is what its engine may take, in bytes."""
    # Imported here and not above: PyTorch takes a second to load, which --help and a wrong option need not wait for.
    from srfast.upscaler import load

    return load(**load_arguments(options, kind, memory))


def load_arguments(options: ModelOptions, kind: str, memory: int | None = None) -> dict[str, Any]:
    """What ``srfast.load`` takes for the options."""
    if options.tile != "auto" and not options.tile.isdigit():
        raise ValueError(f"--tile takes auto, 0 or a size in pixels, not {options.tile!r}")
    return {
        "model": options.model or default_model(kind, options.outscale),
        "scale": options.model_scale,
        "act": options.act,
        "res_scale": options.res_scale,
        "outscale": options.outscale,
        "size": options.size,
        "height": options.height,
        "backend": options.backend,
        "device": _device(options),
        "dtype": _dtype(options),
        "tile": None if options.tile == "auto" else int(options.tile),
        "memory": memory,
        "self_ensemble": options.self_ensemble,
    }


def _device(options: ModelOptions) -> str | None:
    """The device that --device or --gpu-id says, or both together."""
    if options.gpu_id is None:
        return options.device
    numbered = f"cuda:{options.gpu_id}"
    if options.device not in (None, "cuda", numbered):
        raise ValueError(f"--device {options.device} and --gpu-id {options.gpu_id} are two devices: give one of them")
    return numbered


def _dtype(options: ModelOptions) -> str | None:
    """The dtype that --dtype or --fp32 says."""
    if options.fp32 and options.dtype not in (None, "fp32"):
        raise ValueError(f"--fp32 and --dtype {options.dtype} are two dtypes: give one of them")
    return "fp32" if options.fp32 else options.dtype


def key_value(text: str) -> tuple[str, str]:
    """Splits ``key=value``."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ValueError(f"an option is written key=value, not {text!r}")
    return key, value


def size_in_bytes(text: str) -> int:
    """Bytes of '800M', '2G', '1.5GiB' or a plain number; units are powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not match or not float(match[1]):
        raise ValueError(f"a size is written like 800M or 2G, not {text!r}")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " "))


def seconds_of_latency(text: str) -> float:
    """Seconds of '40ms', '0.1s' or a plain number of milliseconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s)?", text.strip().lower())
    if not match or not float(match[1]):
        raise ValueError(f"a latency is written like 40ms or 0.1s, not {text!r}")
    return float(match[1]) / (1 if match[2] == "s" else 1000)


def paths_from(args: argparse.Namespace, queued: list[str]) -> tuple[list[str], str]:
    """Inputs and output from positions and options; ``queued`` are further inputs."""
    rest = list(args.paths)
    # With -i, one position is the output; with two or more, the last is, as cp and mv have it.
    target = args.output or (rest.pop() if rest and (args.input or queued or len(rest) > 1) else None)
    sources = [*([args.input] if args.input else []), *rest, *queued]
    if not sources or target is None:
        raise ValueError("give one input and one output: srfast upscale IN OUT, or several inputs and a folder")
    return [str(source) for source in sources], str(target)


def _names(group: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(group))


# What each kind of input has no use for, by the names of the fields.
_OF_VIDEO = (*_names(VideoOptions), *(name for name in _names(RunOptions) if name != "resume"))
_OF_RAY = _names(RayOptions)
_USELESS = {
    Kind.IMAGE: (*_OF_VIDEO, *_OF_RAY, "resume", "suffix", "ext"),
    Kind.FOLDER: (*_OF_VIDEO, *_OF_RAY),
    Kind.FILES: (*_OF_RAY, "input_format", "input_option", "format", "report", "max_latency", "lighter", "preview"),
    Kind.VIDEO: (*_OF_RAY, "lighter", "suffix", "ext"),
    Kind.LIVE: (*_OF_RAY, "resume", "strict", "no_reuse", "report", "max_memory", "preview", "suffix", "ext"),
    Kind.RAY: ("frames", "max_latency", "lighter", "preview", "format", "ext", "max_memory"),
}
_OPTIONS = {"start": "from", "end": "to"}  # that are not called as their fields
_ELSEWHERE = {
    **dict.fromkeys(_OF_RAY, "it goes with --ray"),
    "frames": "--to ends it at a time",
    "lighter": "it goes with --max-latency",
    "suffix": "it is for the results of a folder",
    "ext": "it is for the results of a folder; the output's name says the format",
}


def check_applicable(options: UpscaleOptions, kind: Kind, useful: tuple[str, ...] = ()) -> None:
    """Refuses options that would do nothing for this kind of input, but for those that are ``useful`` this time.

    Raises:
        ValueError: there is one.
    """
    for name in options.given():
        if name in _USELESS[kind] and name not in useful:
            usual = "it does not go with --max-latency" if kind is Kind.LIVE else "it is for videos"
            option = _OPTIONS.get(name, name.replace("_", "-"))
            elsewhere = usual if name == "frames" and kind is not Kind.RAY else _ELSEWHERE.get(name, usual)
            raise ValueError(f"--{option} does nothing for {kind.label}: {elsewhere}")


def check_frames(frames: int | None) -> None:
    """Refuses a number of frames that is none."""
    if frames is not None and frames < 1:
        raise ValueError(f"--frames takes a number from 1, not {frames}")


def is_image(path: str) -> bool:
    """True for one image, not for numbered ones."""
    from srfast.images import SUFFIXES
    from srfast.video.source import is_sequence

    return Path(path).suffix.lower() in SUFFIXES and not is_sequence(path)


def is_readable_image(path: str) -> bool:
    """True for a file that OpenCV can read as an image, whatever its name."""
    import cv2

    if not Path(path).is_file():
        return False
    try:
        with openable(path) as name:
            return bool(cv2.haveImageReader(name))
    except (OSError, InputError):
        return False  # whoever reads it says why
