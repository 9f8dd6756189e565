"""The pipes of docs/integrations.md run as they stand there, where their program is installed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "integrations.md"
BLOCK = re.compile(r"<!-- run with (\w+) -->\n```sh\n(.*?)```", re.DOTALL)
RECIPES = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
FRAMES, WIDTH, HEIGHT = 5, 48, 32


def clip(path: Path) -> None:
    """Frames of their own gray, and a tone."""
    with av.open(str(path), "w") as out:
        video, sound = out.add_stream("libx264", rate=25), out.add_stream("aac", rate=48000, layout="mono")
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(FRAMES):
            image = np.full((HEIGHT, WIDTH, 3), 40 * i + 20, np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        tone = np.sin(np.arange(9600) * 0.05).astype(np.float32)[None] * 0.2
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        out.mux(sound.encode(frame))
        for stream in (video, sound):
            out.mux(stream.encode(None))


def test_the_page_has_recipes() -> None:
    assert [program for program, _ in RECIPES] == ["ffmpeg"] * 4 + ["mpv"]


@pytest.mark.parametrize(("program", "code"), RECIPES, ids=lambda text: text.split()[0] if "\n" not in text else "")
def test_a_recipe(program: str, code: str, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    clip(tmp_path / "in.mp4")
    command = tmp_path / "bin" / "srfast"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m srfast "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for path in tmp_path.glob("out.*"):
        with av.open(str(path)) as made:
            grays = [float(frame.to_ndarray(format="gray").mean()) for frame in made.decode(video=0)]
            assert (made.streams.video[0].width, made.streams.video[0].height) == (2 * WIDTH, 2 * HEIGHT)
            assert len(made.streams.audio) == 1
        assert len(grays) == FRAMES
        assert grays == sorted(grays)
    raw = tmp_path / "frames.rgb"
    if "frames.rgb" in code:
        assert raw.stat().st_size == FRAMES * 4 * WIDTH * HEIGHT * 3
    else:
        assert program == "mpv" or list(tmp_path.glob("out.*"))
