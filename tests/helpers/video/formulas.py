"""YUV by the definitions of ITU-R BT.601, 709, 2020 and SMPTE 240M (ITU-T H.273, 8.3), in numpy alone."""

from __future__ import annotations

from typing import Any

import av
import numpy as np

KR_KB = {
    1: (0.2126, 0.0722),
    4: (0.3, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}


def codes(rgb: np.ndarray, matrix: int, full: bool, bits: int) -> list[np.ndarray]:
    """[3, ...] RGB of 0..1 -> the integers of Y, U and V."""
    kr, kb = KR_KB[matrix]
    y = kr * rgb[0] + (1 - kr - kb) * rgb[1] + kb * rgb[2]
    u, v = (rgb[2] - y) / (2 * (1 - kb)), (rgb[0] - y) / (2 * (1 - kr))
    top, middle, step = 2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 8)
    if full:
        planes = [top * y, middle + top * u, middle + top * v]
    else:
        planes = [16 * step + 219 * step * y, middle + 224 * step * u, middle + 224 * step * v]
    return [np.clip(np.rint(p), 0, top).astype(np.uint16) for p in planes]


def is_gray(pix_fmt: Any) -> bool:
    return len(pix_fmt.components) < 3


def components(frame: av.VideoFrame) -> list[np.ndarray]:
    """The integers of each component of a planar or half-planar frame, [h, w]; a packed RGB frame's as [H, W, C]."""
    if frame.format.is_rgb:
        deep = max(c.bits for c in frame.format.components) > 8
        alpha = any(c.is_alpha for c in frame.format.components)
        name = {(0, 0): "rgb24", (0, 1): "rgba", (1, 0): "rgb48le", (1, 1): "rgba64le"}[deep, alpha]
        return [frame.reformat(format=name).to_ndarray()]
    found = []
    for plane, values in zip(frame.planes, _writable(frame), strict=True):
        pairs = plane.width * 2 <= values.shape[1] and len(frame.planes) == 2 and plane.width < frame.width
        found += [values[:, : 2 * plane.width : 2], values[:, 1 : 2 * plane.width : 2]] if pairs else [values]
    shift = 6 if frame.format.name.startswith("p010") else 0
    return [np.array(v[:, : frame.width] >> shift) for v in found]


def _writable(frame: av.VideoFrame) -> list[np.ndarray]:
    dtype = np.dtype(np.uint16 if max(c.bits for c in frame.format.components) > 8 else np.uint8)
    rows = [np.frombuffer(p, dtype).reshape(p.height, p.line_size // dtype.itemsize) for p in frame.planes]
    if len(frame.planes) == 2 and frame.planes[1].width < frame.width:
        return [rows[0][:, : frame.width], rows[1]]
    return [r[:, : p.width] for r, p in zip(rows, frame.planes, strict=True)]


def frame_of(values: list[np.ndarray], pix_fmt: str) -> av.VideoFrame:
    """A frame from [H, W] integers of each component at full size; chroma is the value at the top left of its pixels."""
    height, width = values[0].shape
    frame = av.VideoFrame(width, height, pix_fmt)
    shift = 6 if pix_fmt.startswith("p010") else 0
    rows = _writable(frame)
    if len(rows) == 2 and len(values) == 3:  # half-planar
        rows[0][...] = values[0] << shift
        down, across = height // rows[1].shape[0], width // frame.planes[1].width
        for i in (0, 1):
            small = values[1 + i][::down, ::across] << shift
            rows[1][:, i : 2 * small.shape[1] : 2] = small
        return frame
    for row, value in zip(rows, values, strict=True):
        row[...] = value[:: height // row.shape[0], :: width // row.shape[1]]
    return frame
