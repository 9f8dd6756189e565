"""ComfyUI: nodes that load a model, upscale a batch of images, and upscale a video from one file to another.

ComfyUI finds them by ``NODE_CLASS_MAPPINGS`` in a folder of ``custom_nodes``; examples/comfyui is such a folder. Images there are
torch [B, H, W, 3] float32 in 0..1.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srfast.errors import InputError
from srfast.upscaler import Upscaler

CATEGORY = "srfast"
MODEL = "UPSCALER_SRFAST"  # the type of a wire between these nodes
_AUTO = "auto"
_OUTSIDE = (ImportError, AttributeError)  # what ComfyUI's own modules raise where this does not run inside of it
_SHIPPED = (
    "compact_x4",
    "compact_x2",
    "compact_footage_x4",
    "compact_footage_x2",
    "srresnet_x4",
    "srresnet_x2",
    "srgan_x4",
)


class LoadModel:
    """Loads a shipped model, or a checkpoint from ComfyUI's folder of upscale models or any other."""

    CATEGORY = CATEGORY
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  the name is ComfyUI's
        """Return the node's inputs as ComfyUI wants them: by name a type or the choices, with options."""
        return {
            "required": {
                "name": ([*_SHIPPED, *_installed()],),
                "dtype": ([_AUTO, "fp16", "bf16", "fp32"],),
            },
            "optional": {
                "path": ("STRING", {"default": "", "tooltip": "a checkpoint's path, instead of a name"}),
                "device": ("STRING", {"default": _AUTO, "tooltip": "cpu, cuda, cuda:1, ..."}),
            },
        }

    def load(self, name: str, dtype: str = _AUTO, path: str = "", device: str = _AUTO) -> tuple[Upscaler]:
        """Load a model; it keeps its memory until no node holds it.

        Args:
            name: a shipped model's, or that of a file in ComfyUI's folder of upscale models.
            dtype: 'fp16', 'bf16', 'fp32', or 'auto' for the fastest that keeps all levels of 8-bit images.
            path: of a checkpoint, instead of the name.
            device: 'cpu', 'cuda', 'cuda:1', or 'auto' for the first GPU, else the CPU.

        Raises:
            CheckpointError: the file is missing, or no network that is known.
            BackendError: nothing runs the network on that device in that dtype.

        Examples:
            >>> (model,) = LoadModel().load("compact_x2", device="cpu")
            >>> model.scale
            2
        """
        model = path.strip() or _found(name)
        return (Upscaler(model, dtype=_given(dtype), device=_given(device)),)

    @classmethod
    def IS_CHANGED(cls, name: str = "", path: str = "", **others: Any) -> str:  # noqa: N802
        """Return what changes with the checkpoint's file, so that ComfyUI loads it again."""
        return _state(path.strip() or _found(name))


class UpscaleImages:
    """Upscales a batch of images one by one into the result's own memory: no other copy of the batch is made."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Return the node's inputs as ComfyUI wants them: by name a type or the choices, with options."""
        return {"required": {"model": (MODEL,), "images": ("IMAGE",)}}

    def upscale(self, model: Upscaler, images: Tensor) -> tuple[Tensor]:
        """Upscale a batch of images.

        Args:
            model: of ``LoadModel``, without ``outscale``, ``size`` and ``height``.
            images: [B, H, W, 3] RGB, [B, H, W, 4] RGBA or [B, H, W, 1] gray, floating in 0..1; what lies outside is cut off.

        Returns:
            [B, s*H, s*W, C] of the same dtype, on the same device.

        Raises:
            InputError: another shape or type, no images, or a model that resizes its results.

        Examples:
            >>> (model,) = LoadModel().load("compact_x2", device="cpu")
            >>> (large,) = UpscaleImages().upscale(model, torch.zeros(2, 8, 12, 3))
            >>> large.shape
            torch.Size([2, 16, 24, 3])
        """
        if images.ndim != 4 or images.shape[3] not in (1, 3, 4) or not images.is_floating_point() or not images.numel():
            raise InputError(f"images are [B, H, W, 3] floating in 0..1, not {list(images.shape)} of {images.dtype}")
        if model.resizes:
            raise InputError("a model with outscale, size or height is for numpy frames; resize the images after it")
        count, height, width, channels = images.shape
        tall, wide = model.output_size(height, width)
        out = torch.empty((count, tall, wide, channels), dtype=images.dtype, device=images.device)
        tell = _progress(count)
        for number, image in enumerate(images):
            _check_interrupted()
            # What decoders leave a little outside of 0..1 is for the screen to cut off, as ComfyUI's own nodes do.
            out[number] = model(image.clamp(0, 1).movedim(2, 0)).movedim(0, 2)
            tell(number + 1)
        return (out,)


class UpscaleVideo:
    """Upscales a video from one file to another; frames stream through, so memory does not depend on its length."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("path",)
    FUNCTION = "upscale"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Return the node's inputs as ComfyUI wants them: by name a type or the choices, with options."""
        return {
            "required": {
                "model": (MODEL,),
                "source": ("STRING", {"default": "", "tooltip": "path of a video"}),
                "target": (
                    "STRING",
                    {"default": "", "tooltip": "path of the result, such as out.mp4; empty: output folder"},
                ),
            },
            "optional": {
                "codec": ("STRING", {"default": _AUTO, "tooltip": "libx264, libx265, h264_nvenc, ..."}),
                "crf": (
                    "FLOAT",
                    {"default": -1.0, "min": -1.0, "max": 63.0, "tooltip": "quality; -1 is the codec's usual"},
                ),
                "overwrite": ("BOOLEAN", {"default": False}),
            },
        }

    def upscale(
        self, model: Upscaler, source: str, target: str, codec: str = _AUTO, crf: float = -1.0, overwrite: bool = False
    ) -> tuple[str]:
        """Upscale a video with its sound, subtitles and times.

        An interruption leaves what is done; the same node goes on from there when it is queued again.

        Args:
            model: of ``LoadModel``.
            source: path of a video, or a pattern of numbered images.
            target: path of the result, whose suffix chooses the container; empty is a name in ComfyUI's output folder.
            codec: an encoder by ffmpeg's name, or 'auto' for the container's usual one.
            crf: the encoder's quality, 0..63, smaller is better; below 0 is its usual one.
            overwrite: replace a target that exists.

        Returns:
            The result's path.

        Raises:
            InputError: the source cannot be read.
            OutputError: the target exists and may not be overwritten, or cannot be written.

        Examples:
            >>> import cv2, numpy as np
            >>> cv2.imwrite("1.png", np.zeros((24, 32, 3), np.uint8))  # a video of one picture
            True
            >>> (model,) = LoadModel().load("compact_x2", device="cpu")
            >>> UpscaleVideo().upscale(model, "%d.png", "large.mkv")
            ('large.mkv',)
        """
        from srfast.video import Encoding, Progress, upscale_video

        if not source.strip():
            raise InputError("the video node needs the path of a video as its source")
        path = Path(target.strip() or _output_folder() / f"{Path(source).stem}_x{model.outscale:g}.mp4")
        encoding = Encoding(None if codec == _AUTO else codec, None if crf < 0 else crf)
        tell: list[Callable[[int], None]] = []

        def on_progress(progress: Progress) -> None:
            _check_interrupted()
            if not tell:
                tell.append(_progress(progress.total or 0))
            tell[0](progress.done)

        upscale_video(
            source.strip(), path, model, encoding=encoding, overwrite=overwrite, resume=True, on_progress=on_progress
        )
        return (str(path),)

    @classmethod
    def IS_CHANGED(cls, source: str = "", **others: Any) -> str:  # noqa: N802
        """Return what changes with the source's file, so that ComfyUI upscales another one of the same name."""
        return _state(source.strip())


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "SrfastLoadModel": LoadModel,
    "SrfastUpscaleImages": UpscaleImages,
    "SrfastUpscaleVideo": UpscaleVideo,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "SrfastLoadModel": "Load upscale model (srfast)",
    "SrfastUpscaleImages": "Upscale images (srfast)",
    "SrfastUpscaleVideo": "Upscale video, file to file (srfast)",
}


def _given(choice: str) -> str | None:
    """What was chosen, or None where it is left to srfast."""
    return None if choice == _AUTO else choice


def _installed() -> list[str]:
    """Names of the files in ComfyUI's folder of upscale models."""
    try:
        import folder_paths

        return list(folder_paths.get_filename_list("upscale_models"))
    except _OUTSIDE:
        return []


def _found(name: str) -> str:
    """The path of a file there, or the name of a shipped model."""
    if name in _SHIPPED:
        return name
    try:
        import folder_paths

        return str(folder_paths.get_full_path("upscale_models", name) or name)
    except _OUTSIDE:
        return name


def _state(path: str) -> str:
    """What tells a file from another one of its name; nothing of what is no file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _output_folder() -> Path:
    try:
        import folder_paths

        return Path(folder_paths.get_output_directory())
    except _OUTSIDE:
        return Path(os.curdir)


def _progress(total: int) -> Callable[[int], None]:
    """A function that moves ComfyUI's bar to a number of images."""
    try:
        from comfy.utils import ProgressBar

        bar = ProgressBar(max(total, 1))
    except _OUTSIDE:
        return lambda done: None
    return lambda done: bar.update_absolute(done, max(total, done, 1))


def _check_interrupted() -> None:
    """Raises ComfyUI's own exception where the user has asked to stop."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
    except _OUTSIDE:
        return
    throw_exception_if_processing_interrupted()
