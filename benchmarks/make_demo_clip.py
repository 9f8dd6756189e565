"""Makes ``srfast/assets/clip.mp4``: a camera move over a public-domain photograph, with a tone.

The photograph is NASA's portrait of Eileen Collins (public domain) as scikit-image carries it. Run it again only to
change the clip: ``python benchmarks/make_demo_clip.py``.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from skimage import data

TARGET = Path(__file__).parent.parent / "srfast" / "assets" / "clip.mp4"
WIDTH, HEIGHT, FRAMES, RATE = 192, 144, 48, 24
SAMPLES = 44_100


def frame(photo: npt.NDArray[np.uint8], index: int) -> npt.NDArray[np.uint8]:
    """One position of the camera: four times the size, then reduced by area, as a lens and sensor do."""
    t = index / (FRAMES - 1)
    width = 300 - 60 * math.sin(math.pi * t / 2)  # pixels of the photograph across the picture
    centre = (230 + 60 * math.sin(math.pi * t), 150 + 40 * t)
    zoom = 4 * WIDTH / width
    matrix = np.array([[zoom, 0, 2 * WIDTH - zoom * centre[0]], [0, zoom, 2 * HEIGHT - zoom * centre[1]]])
    large = cv2.warpAffine(photo, matrix, (4 * WIDTH, 4 * HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def tone() -> npt.NDArray[np.float32]:
    """Two seconds that swell and fade, [1, samples]."""
    t = np.arange(SAMPLES * FRAMES // RATE) / SAMPLES
    return np.asarray(0.1 * np.sin(2 * np.pi * 220 * t) * np.sin(np.pi * t / t[-1]), dtype=np.float32)[None]


def main() -> None:
    photo = data.astronaut()  # type: ignore[no-untyped-call]
    with av.open(str(TARGET), "w", options={"movflags": "+faststart"}) as out:
        video = out.add_stream("libx264", rate=RATE, options={"crf": "14", "preset": "veryslow"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = video.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = 6, 1, 6, 6
        audio = out.add_stream("aac", rate=SAMPLES, layout="mono", bit_rate=48_000)
        for index in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(frame(photo, index), format="rgb24")
            converted = picture.reformat(format="yuv420p", dst_colorspace=5, dst_color_range=1)
            converted.pts, converted.time_base = index, Fraction(1, RATE)
            out.mux(video.encode(converted))
        out.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(tone(), format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = SAMPLES, 0, Fraction(1, SAMPLES)
        out.mux(audio.encode(sound))
        out.mux(audio.encode(None))
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
