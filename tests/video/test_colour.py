"""The conversion between YUV and RGB by itself: no codec, flat patches, the definitions as the reference."""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest

from srfast.video.colour import FULL, LIMITED, Colour, from_rgb, to_rgb
from tests.helpers.video.formulas import KR_KB, codes, components, frame_of, is_gray

EIGHT = ("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv440p", "nv12", "yuvj420p", "gray", "yuva420p", "yuva444p")
TEN = ("yuv420p10le", "yuv422p10le", "yuv444p10le", "p010le", "gray10le", "yuva444p10le")
MORE = ("yuv420p12le", "yuv422p12le", "yuv444p12le", "yuv444p16le")
SIZE = 32, 16


def patches(count: int = 6) -> np.ndarray:
    """[count, 3] RGB that every matrix and range can hold."""
    return np.random.default_rng(0).uniform(0.05, 0.95, (count, 3))


def flat(rgb: np.ndarray, name: str, colour: Colour) -> av.VideoFrame:
    """A frame of one colour, by the definitions."""
    pix_fmt = av.VideoFormat(name)
    bits = max(c.bits for c in pix_fmt.components)
    if is_gray(pix_fmt):
        rgb, colour = np.full(3, rgb[1]), replace(colour, range=FULL)
    values = codes(rgb[:, None, None], colour.matrix, colour.range == FULL, bits)
    values += [np.uint16([[round(0.6 * (2**bits - 1))]])] if any(c.is_alpha for c in pix_fmt.components) else []
    planes = [np.broadcast_to(v, SIZE[::-1]) for v in values]
    return frame_of(planes[:1] if is_gray(pix_fmt) else planes, name)


def round_trip(frame: av.VideoFrame, colour: Colour, back: Colour) -> int:
    """The most that any component changes, in its own levels, on the way to RGB, twice the size, and back."""
    name = frame.format.name
    deep, alpha = (
        any(test(c) for c in frame.format.components) for test in (lambda c: c.bits > 8, lambda c: c.is_alpha)
    )
    large = to_rgb(frame, colour, deep, alpha).repeat(2, 0).repeat(2, 1)
    after = components(from_rgb(np.ascontiguousarray(large), name, back))
    middles = [[p[p.shape[0] // 2, p.shape[1] // 2].astype(int) for p in f] for f in (components(frame), after)]
    return int(np.abs(np.subtract(*middles)).max())


@pytest.mark.parametrize("matrix", KR_KB)
@pytest.mark.parametrize("name", EIGHT + TEN + MORE)
def test_round_trip_within_a_level(name: str, matrix: int) -> None:
    """Within one level of the format's own depth, of 4096 in 12 bits; without a loss in limited range."""
    for span in (FULL,) if name.startswith("yuvj") else (LIMITED, FULL):
        colour = Colour(matrix, span, 2, 2, False)
        worst = max(round_trip(flat(rgb, name, colour), colour, colour) for rgb in patches())
        assert worst <= (0 if span == LIMITED and "yuva" not in name else 1), span


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p10le"])
def test_a_wrong_matrix_or_range_is_seen(name: str) -> None:
    right = Colour(1, LIMITED, 2, 2, False)
    for wrong in (replace(right, matrix=6), replace(right, matrix=9), replace(right, range=FULL)):
        assert max(round_trip(flat(rgb, name, right), right, wrong) for rgb in patches()) > 5


@pytest.mark.parametrize("matrix", KR_KB)
@pytest.mark.parametrize("span", [LIMITED, FULL])
@pytest.mark.parametrize("name", ["yuv444p", "yuv444p10le", "yuv444p12le", "yuv444p16le", "gray10le"])
def test_rgb_follows_the_definitions(name: str, matrix: int, span: int) -> None:
    """RGB is off by no more than the rounding of Y, U and V explains: half a level of each, times its weight."""
    colour, bits = Colour(matrix, span, 2, 2, False), max(c.bits for c in av.VideoFormat(name).components)
    kr, kb = KR_KB[matrix]
    kg = 1 - kr - kb
    gray = name.startswith("gray")
    luma, chroma = (2**bits - 1,) * 2 if span == FULL or gray else (219 << bits - 8, 224 << bits - 8)
    weights = np.array([2 - 2 * kr, (kb * (2 - 2 * kb) + kr * (2 - 2 * kr)) / kg, 2 - 2 * kb]) * (not gray)
    bound = 0.5 / luma + 0.5 * weights / chroma + (1.0 / 65535 if bits > 8 else 1.0 / 255)
    for rgb in patches():
        got = to_rgb(flat(rgb, name, colour), colour, bits > 8)[8, 16] / (65535 if bits > 8 else 255)
        assert (np.abs(got - (rgb[1] if gray else rgb)) <= bound).all()


@pytest.mark.parametrize("name", ["yuv420p10le", "yuv444p12le", "p010le"])
def test_eight_bits_into_more(name: str) -> None:
    colour = Colour(1, LIMITED, 2, 2, False)
    bits = max(c.bits for c in av.VideoFormat(name).components)
    for rgb in np.rint(patches() * 255).astype(np.uint8):
        found = components(from_rgb(np.broadcast_to(rgb, (16, 32, 3)).copy(), name, colour))
        wanted = codes(rgb / 255, 1, False, bits)
        assert all(abs(int(p[4, 4]) - int(w)) <= 1 for p, w in zip(found, wanted, strict=True))
