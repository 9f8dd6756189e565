"""How low-resolution images are made: by one filter, or by what videos suffer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
import numpy.typing as npt

from srfast.training.imresize import imresize
from srfast.training.metrics import UInt8Image

Image = npt.NDArray[np.float32]
FILTERS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


def bicubic(image: UInt8Image, scale: int) -> UInt8Image:
    """MATLAB's bicubic, antialiased: the published tables shrink by it, and other libraries do not reproduce it."""
    return imresize(image, 1 / scale)


def gaussian(image: UInt8Image, scale: int) -> UInt8Image:
    """A Gaussian filter, sigma 0.4 * scale, sampled at the middle of each block."""
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.4 * scale, borderType=cv2.BORDER_REFLECT)
    # The middle of a block of an even side lies between two pixels.
    low, high = (scale - 1) // 2, scale // 2
    corners = [blurred[y::scale, x::scale] for y in (low, high) for x in (low, high)]
    return _bytes(np.mean(corners, axis=0, dtype=np.float32))


def footage(image: UInt8Image, scale: int, chance: random.Random) -> UInt8Image:
    """What a camera, an editor and an encoder leave of an image.

    Blur, noise, JPEG and a change of size, each with a chance of its own, come in random order before or after the image becomes
    small (as in Zhang et al. 2021, https://arxiv.org/abs/2103.14006); most images then pass through H.264 as the last frame
    of a moving clip, in 4:2:0. Strengths reach from none to what a low-rate web video has.

    Args:
        image: uint8 RGB [H, W, 3], sides multiples of ``scale``.
        scale: by how much it becomes smaller.
        chance: where order and strengths come from.

    Returns:
        uint8 RGB [H / scale, W / scale, 3].

    Examples:
        >>> footage(np.full((64, 96, 3), 90, np.uint8), 4, random.Random(1)).shape
        (16, 24, 3)
    """
    height, width = image.shape[0] // scale, image.shape[1] // scale

    def shrink(x: Image, _: float, chance: random.Random) -> Image:
        return _sized(x, (width, height), chance)

    steps = [shrink, *(fault for fault, share in _FAULTS if chance.random() < share)]
    chance.shuffle(steps)
    found = image.astype(np.float32)
    for step in steps:
        found = step(found, found.shape[0] / height, chance)
    small = _bytes(found if found.shape[:2] == (height, width) else _sized(found, (width, height), chance))
    return h264(small, chance.randint(17, 33), chance) if chance.random() < 0.85 else small


# What befalls an image, which is so many times the size of the small one.
Step = Callable[[Image, float, random.Random], Image]


def _sized(image: Image, size: Sequence[int], chance: random.Random) -> Image:
    return np.asarray(cv2.resize(image, size, interpolation=chance.choice(FILTERS)), np.float32)


def _blur(image: Image, times: float, chance: random.Random) -> Image:
    """A Gaussian of up to 0.7 pixels of the small image, wider one way than the other."""
    sigma = [chance.uniform(0.1, 0.7) * times for _ in range(2)]
    blurred = cv2.GaussianBlur(image, (0, 0), sigma[0], sigmaY=sigma[1], borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32)


def _noise(image: Image, times: float, chance: random.Random) -> Image:
    """Up to 12 levels of noise, grey or coloured, stronger where it is bright."""
    numbers = np.random.default_rng(chance.getrandbits(32))
    colours = chance.choice((1, 3))
    noise = numbers.standard_normal((*image.shape[:2], colours), np.float32)
    level = chance.uniform(0, 12) * np.sqrt(0.3 + 0.7 * image / 255)
    return np.asarray(image + noise * level, np.float32)


def _jpeg(image: Image, times: float, chance: random.Random) -> Image:
    quality = [cv2.IMWRITE_JPEG_QUALITY, chance.randint(40, 95)]
    packed = cv2.imencode(".jpg", _bytes(image[..., ::-1]), quality)[1]
    decoded = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded[..., ::-1], np.float32)


def _resize(image: Image, times: float, chance: random.Random) -> Image:
    """Another size that is not far away, as of a video that was converted before."""
    factor = chance.uniform(0.6, 1.2)
    return _sized(image, [max(8, round(side * factor)) for side in image.shape[1::-1]], chance)


# Each with the share of images that it befalls.
_FAULTS: tuple[tuple[Step, float], ...] = ((_blur, 0.6), (_noise, 0.5), (_jpeg, 0.4), (_resize, 0.4))


def h264(image: UInt8Image, crf: int, chance: random.Random) -> UInt8Image:
    """An image as the last frame of a short clip that moves, encoded by x264 at a constant quality and decoded.

    Args:
        image: uint8 RGB [H, W, 3].
        crf: x264's rate factor; 17 can hardly be seen, 33 is a poor web video.
        chance: where the motion comes from.
    """
    height, width = image.shape[:2]
    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    motion = [chance.uniform(-3, 3) for _ in range(2)]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = even.shape[1], even.shape[0], "yuv420p"
    encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
    encoder.options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets = []
    for before in (2, 1, 0):
        shift = np.array([[1, 0, motion[0] * before], [0, 1, motion[1] * before]], np.float32)
        moved = cv2.warpAffine(even, shift, even.shape[1::-1], borderMode=cv2.BORDER_REFLECT) if before else even
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(moved, np.uint8), format="rgb24")
        frame.pts = 2 - before
        packets += encoder.encode(frame)
    frames = [frame for packet in (*packets, *encoder.encode(None), None) for frame in decoder.decode(packet)]
    return np.ascontiguousarray(frames[-1].to_ndarray(format="rgb24")[:height, :width], np.uint8)


def degrade(image: UInt8Image, scale: int, kind: str, chance: random.Random) -> UInt8Image:
    """The low-resolution image by a kind of ``DEGRADATIONS``; only "footage" draws from ``chance``."""
    return footage(image, scale, chance) if kind == "footage" else _FILTERED[kind](image, scale)


_FILTERED = {"bicubic": bicubic, "gaussian": gaussian}
DEGRADATIONS = (*_FILTERED, "footage")


def _bytes(image: Image) -> UInt8Image:
    return np.ascontiguousarray(np.clip(np.rint(image), 0, 255), np.uint8)
