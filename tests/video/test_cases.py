"""Complaints of users, each a shell script that makes its input and tries it: every one comes out right.

``SRFAST_CASES`` names their folder; they need ffmpeg and ffprobe. One command runs them all:
``SRFAST_CASES=folder pytest -m slow tests/video/test_cases.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import srfast

FOLDER = Path(os.environ.get("SRFAST_CASES", ""))
CASES = sorted(path.parent.name for path in FOLDER.glob("*/run.sh")) if os.environ.get("SRFAST_CASES") else []
# What each prints where it is right, in this order.
EXPECTED: dict[str, list[str]] = {
    "01_pcm_layout_mp4": ["rc=0", "resume rc=0", "mkv rc=0"],
    "02_dv_rate": ["mp4 rc=0", "^25/1$"],
    "03_editlist_damaged": ["rc=0", r"^output +50 frames"],
    "04_name_not_utf8_segfault": ["folder rc=0", "file rc=0", "ASCII locale rc=0"],
    "05_cover_in_mkv": ["jpg rc=0", "^1,mjpeg,1$", "png rc=0"],
    "07_rotation_in_frames_outputs": ["^96,128$", "o.avi: .* 96x128", "W96 H128", r"\(128, 96, 3\)"],
    "09_alpha_not_solid": [
        rf"{m} alpha far outside \[0\] alpha far inside \[255\] .*\[255\.? +0\."
        for m in ("srgan_x4", "srresnet_x4", "compact_x4")
    ],
    "11_folder_skips": [
        r"d/\._a.png",
        "6 of 6 images",
        "rc=0",
        "^b.jfif$",
        "^c.png$",
        "^e.png$",
        "^f.jp2$",
        "^sub$",
        "folder of videos rc=0",
    ],
    "13_stream_none": ["default progress: rc=0", "^o.mp4$", "stdout closed rc=0", "^0"],
    "14_mov_text_to_mkv_and_others": [
        "mov_text -> mkv rc=0",
        "srt -> mp4 rc=0",
        "cannot hold the (srt|subrip) subtitle stream; .*--no-copy-subtitle",
        "srt -> ts rc=7",
        "cannot hold the truehd audio stream .*--no-copy-audio",
        "truehd -> mp4 rc=7",
    ],
    "15_vp9_alpha_in": [r"^1(2[6-9]|30)\.\d+ .expected 128"],
    "17_animations": [
        *(f"{kind} -> {to} rc=0" for kind in ("gif", "png", "webp", "avif") for to in ("mkv", kind)),
        "^5$",
    ],
    "20_checkpoints": [
        f"^{name} Upscaler" for name in ("G", "gen", "network", "ema_dict", "G_and_D", "gen_state_dict")
    ],
    "21_onnx_reshape_shuffle": ["^Upscaler"],
    "22_json_progress_mixed": [
        f"^{codec} lines on stderr that are not JSON: 0" for codec in ("libx264", "libx265", "libsvtav1")
    ],
    "25_interlaced": ["the input is interlaced: .*--deinterlace", "^progressive$"],
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not CASES, reason="SRFAST_CASES names no folder of cases")
@pytest.mark.skipif(not shutil.which("ffprobe"), reason="ffmpeg and ffprobe are not on the PATH")
@pytest.mark.parametrize("name", CASES)
def test_case(name: str, tmp_path: Path) -> None:
    source = str(Path(srfast.__file__).parents[1])
    environment = os.environ | {
        "S": f"{sys.executable} -m srfast",
        "PY": sys.executable,
        "PYTHONPATH": source,
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", str(FOLDER / name / "run.sh")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    said = done.stdout
    print(said)
    assert "Traceback" not in said
    lines = iter(said.splitlines())
    for pattern in EXPECTED.get(name, []):
        assert any(re.search(pattern, line) for line in lines), f"{pattern!r} is missing or out of order"
    for code, wanted in re.findall(r"rc=(\d+) \(expected (\d+)", said):
        assert code == wanted
