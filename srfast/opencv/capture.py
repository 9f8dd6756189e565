"""``cv2.VideoCapture`` and ``cv2.VideoWriter`` that upscale: a loop around them changes one line."""

from __future__ import annotations

import os
from typing import Any

import cv2

from srfast.images.arrays import Array
from srfast.upscaler import Upscaler


def _upscaler(model: Any) -> Upscaler:
    return model if isinstance(model, Upscaler) else Upscaler(model)


class VideoCapture:
    """OpenCV's VideoCapture whose frames are larger.

    All arguments, properties and return values are OpenCV's, except that CAP_PROP_FRAME_WIDTH and CAP_PROP_FRAME_HEIGHT are
    those of the upscaled frames. Only frames that are retrieved are computed, so ``grab`` skips cheaply.

    Args:
        *args: what OpenCV takes: a file, an address or the number of a camera, and an API preference.
        model: an upscaler, or what ``srfast.load`` takes.
    """

    def __init__(self, *args: Any, model: Any = "compact_x4", **options: Any) -> None:
        self._upscaler = _upscaler(model)
        self._capture = cv2.VideoCapture(*args, **options)

    def open(self, *args: Any, **options: Any) -> bool:
        """Opens another source."""
        return bool(self._capture.open(*args, **options))

    def isOpened(self) -> bool:  # noqa: N802
        """True while a source is open."""
        return bool(self._capture.isOpened())

    def grab(self) -> bool:
        """Moves to the next frame without computing it."""
        return bool(self._capture.grab())

    def retrieve(self, image: Array | None = None, flag: int = 0) -> tuple[bool, Array | None]:
        """The frame that was grabbed, upscaled: success and [H, W, 3] BGR of uint8."""
        done, frame = self._capture.retrieve(flag=flag)
        return self._finished(done, frame, image)

    def read(self, image: Array | None = None) -> tuple[bool, Array | None]:
        """Grabs and retrieves; (False, None) at the end."""
        done, frame = self._capture.read()
        return self._finished(done, frame, image)

    def _finished(self, done: bool, frame: Array | None, image: Array | None) -> tuple[bool, Array | None]:
        if not done or frame is None:
            return False, None
        out: Array = self._upscaler(frame)
        if image is not None and image.shape == out.shape and image.dtype == out.dtype:
            image[...] = out
            return True, image
        return True, out

    def get(self, propId: int) -> float:  # noqa: N803
        """A property; width and height are those of the frames that ``read`` gives."""
        height, width = (self._capture.get(p) for p in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        known = height > 0 and width > 0  # -1 or 0 while nothing is open
        if known and propId in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH):
            size = self._upscaler.output_size(int(height), int(width))
            return float(size[0] if propId == cv2.CAP_PROP_FRAME_HEIGHT else size[1])
        return float(self._capture.get(propId))

    def set(self, propId: int, value: float) -> bool:  # noqa: N803
        """Sets a property; a width or height is asked of the camera divided by the scale."""
        if propId in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH):
            value = round(value / self._upscaler.outscale)
        return bool(self._capture.set(propId, value))

    def getBackendName(self) -> str:  # noqa: N802
        """OpenCV's name of what decodes."""
        return str(self._capture.getBackendName())

    def setExceptionMode(self, enable: bool) -> None:  # noqa: N802
        """Whether OpenCV raises where it would return False."""
        self._capture.setExceptionMode(enable)

    def getExceptionMode(self) -> bool:  # noqa: N802
        """Whether OpenCV raises where it would return False."""
        return bool(self._capture.getExceptionMode())

    def release(self) -> None:
        """Closes the source."""
        self._capture.release()

    def __enter__(self) -> VideoCapture:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class VideoWriter:
    """OpenCV's VideoWriter that upscales what is written.

    Args:
        filename: of the output.
        *args: OpenCV's: [API preference,] fourcc, fps, frame size, and the rest. The frame size is that of the frames handed
            to ``write``; the file's is the upscaled one.
        model: an upscaler, or what ``srfast.load`` takes.
    """

    fourcc = staticmethod(cv2.VideoWriter.fourcc)

    def __init__(self, filename: str = "", *args: Any, model: Any = "compact_x4", **options: Any) -> None:
        self._upscaler = _upscaler(model)
        self._writer = cv2.VideoWriter()
        if filename:
            self.open(filename, *args, **options)

    def open(self, filename: str, *args: Any, **options: Any) -> bool:
        """Opens another output."""
        # The frame size is the one pair among OpenCV's arguments, whose number and order differ between its overloads.
        values = list(args)
        if "frameSize" in options:
            options["frameSize"] = self._large(options["frameSize"])
        for index, value in enumerate(values):
            if isinstance(value, (tuple, list)) and len(value) == 2:
                values[index] = self._large(value)
                break
        return bool(self._writer.open(os.fspath(filename), *values, **options))

    def _large(self, size: Any) -> tuple[int, int]:
        height, width = self._upscaler.output_size(size[1], size[0])
        return width, height

    def isOpened(self) -> bool:  # noqa: N802
        """True while an output is open."""
        return bool(self._writer.isOpened())

    def write(self, image: Array) -> None:
        """Upscales and writes one frame."""
        self._writer.write(self._upscaler(image))

    def get(self, propId: int) -> float:  # noqa: N803
        """A property of OpenCV's writer."""
        return float(self._writer.get(propId))

    def set(self, propId: int, value: float) -> bool:  # noqa: N803
        """Sets a property of OpenCV's writer."""
        return bool(self._writer.set(propId, value))

    def release(self) -> None:
        """Completes the file."""
        self._writer.release()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()
