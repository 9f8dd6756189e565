"""Video files: streams in, streams out, nothing lost."""

from srfast.video.pipeline import Progress, UpscaledFrame, VideoResult, iter_video, upscale_video
from srfast.video.writer import Encoding

__all__ = ["Encoding", "Progress", "UpscaledFrame", "VideoResult", "iter_video", "upscale_video"]
