"""Static HDR metadata: the display a video was mastered on (SMPTE ST 2086), and its light levels (CTA-861.3)."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

_log = logging.getLogger("srfast")
_DYNAMIC = {"DYNAMIC_HDR_PLUS": "HDR10+", "DOVI_METADATA": "Dolby Vision", "DOVI_RPU_BUFFER": "Dolby Vision"}
# Encoders that write it, their option, and its names there.
_CARRIERS = {
    "libx265": ("x265-params", "master-display", "max-cll"),
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
}


@dataclass(frozen=True)
class Light:
    """What a stream says of its light.

    Attributes:
        primaries: x and y of red, green, blue and white; empty where not told.
        luminance: of the mastering display, darkest and brightest in cd/m2; empty where not told.
        levels: brightest pixel and brightest frame average in cd/m2 (MaxCLL, MaxFALL); empty where not told.
        dynamic: names of metadata of single frames, which do not fit upscaled frames.
    """

    primaries: tuple[Fraction, ...] = ()
    luminance: tuple[Fraction, ...] = ()
    levels: tuple[int, ...] = ()
    dynamic: tuple[str, ...] = ()


def light_of(frame: Any) -> Light:
    """Reads the side data of a stream's first frame, which holds what its container says too."""
    data = {
        name: frame.side_data.get(name) for name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", *_DYNAMIC)
    }
    primaries: tuple[Fraction, ...] = ()
    luminance: tuple[Fraction, ...] = ()
    levels: tuple[int, ...] = ()
    if data["MASTERING_DISPLAY_METADATA"] is not None:
        # AVMasteringDisplayMetadata: ten fractions (red, green, blue, white, darkest, brightest), then what is there.
        numbers = struct.unpack_from("=22i", bytes(data["MASTERING_DISPLAY_METADATA"]))
        parts = tuple(Fraction(a, b or 1) for a, b in zip(numbers[:20:2], numbers[1:20:2], strict=True))
        primaries, luminance = parts[:8] if numbers[20] else (), parts[8:] if numbers[21] else ()
    if data["CONTENT_LIGHT_LEVEL"] is not None:
        levels = struct.unpack_from("=2I", bytes(data["CONTENT_LIGHT_LEVEL"]))
    dynamic = tuple(sorted({word for name, word in _DYNAMIC.items() if data[name] is not None}))
    return Light(primaries, luminance, levels, dynamic)


def with_light(codec: str, options: dict[str, str], light: Light) -> dict[str, str]:
    """The encoder's options with the metadata, unless they hold some; what cannot be carried is said."""
    if light.dynamic:
        _log.warning(
            "the %s metadata of the input belong to its own pixels and are left out", " and ".join(light.dynamic)
        )
    display = bool(light.primaries and light.luminance)
    if not display and not light.levels:
        return options
    if codec not in _CARRIERS:
        _log.warning(
            "%s cannot carry the HDR mastering data of the input, which are left out; %s can",
            codec,
            ", ".join(_CARRIERS),
        )
        return options
    option, mastering, levels = _CARRIERS[codec]
    given = options.get(option, "")
    parts = [given] if given else []
    if display and f"{mastering}=" not in given:
        parts.append(f"{mastering}={_display(light, codec)}")
    if light.levels and f"{levels}=" not in given:
        parts.append(f"{levels}={light.levels[0]},{light.levels[1]}")
    return {**options, option: ":".join(parts)}


def _display(light: Light, codec: str) -> str:
    """x265 and x264 count in 0.00002 and in 0.0001 cd/m2; SVT-AV1 takes decimals."""
    chroma, candela = _counted(50_000), _counted(10_000)
    if codec == "libsvtav1":
        chroma = candela = _decimal
    red, green, blue, white = (tuple(map(chroma, light.primaries[i : i + 2])) for i in (0, 2, 4, 6))
    darkest, brightest = map(candela, light.luminance)
    # Green first: the order of the SEI message in H.265, which x265's option copies.
    points = (("G", green), ("B", blue), ("R", red), ("WP", white), ("L", (brightest, darkest)))
    return "".join(f"{name}({a},{b})" for name, (a, b) in points)


def _counted(units: int) -> Callable[[Fraction], str]:
    return lambda value: str(round(value * units))


def _decimal(value: Fraction) -> str:
    return f"{float(value):.6f}"
