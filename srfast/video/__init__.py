"""Video files: streams in, streams out, nothing lost."""

from srfast.video.damage import Damage
from srfast.video.iteration import UpscaledFrame, iter_video
from srfast.video.live import LiveResult, upscale_live
from srfast.video.pipeline import Progress, VideoResult, upscale_video
from srfast.video.preview import preview
from srfast.video.settings import Encoding
from srfast.video.source import InputOptions
from srfast.video.untrusted import Limits

__all__ = [
    "Damage",
    "Encoding",
    "InputOptions",
    "Limits",
    "LiveResult",
    "Progress",
    "UpscaledFrame",
    "VideoResult",
    "iter_video",
    "preview",
    "upscale_live",
    "upscale_video",
]
