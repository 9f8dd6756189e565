"""Complaints of users, each a shell script that makes its input and tries it: every one comes out right.

``SRFAST_CASES`` names their folder; they need ffmpeg and ffprobe. One command runs them all, and ends with a table of them:
``SRFAST_CASES=folder pytest -m slow tests/video/test_cases.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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


LIMIT = 1200  # seconds a case may take: one takes a quarter of a minute, or many on a machine in use
NICE = """#!/bin/sh
# The scripts give way to everything else, and on a machine in use never end; here they are what is waited for.
[ "$1" = -n ] && shift 2
exec "$@"
"""


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[dict[str, tuple[float, str]]]:
    """Print what became of every case, and its seconds, after the last one."""
    rows: dict[str, tuple[float, str]] = {}
    yield rows
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n\n{'case':<32} {'seconds':>7}  result")
        for name, (seconds, result) in rows.items():
            print(f"{name:<32} {seconds:>7.1f}  {result}")
        print(f"{sum(result == 'right' for _, result in rows.values())} of {len(rows)} cases right")


def run(script: Path, folder: Path) -> str:
    """Return what a case printed, and end all that it started when it takes too long."""
    tools = folder / "tools"
    tools.mkdir()
    (tools / "nice").write_text(NICE)
    (tools / "nice").chmod(0o755)
    environment = os.environ | {
        "S": f"{sys.executable} -m srfast",
        "PY": sys.executable,
        "PYTHONPATH": str(Path(srfast.__file__).parents[1]),
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(folder),
    }
    said = folder / "said.txt"
    with said.open("wb") as file:
        process = subprocess.Popen(
            ["bash", str(script)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            file.write(b"\nnot at its end after the limit of time\n")
    return said.read_text(errors="replace")


def fault(name: str, said: str) -> str:
    """Return what is wrong with the output of a case, or nothing."""
    if "Traceback" in said:
        return "a traceback"
    if "not at its end after" in said:
        return f"not at its end after {LIMIT} s"
    lines = iter(said.splitlines())
    for pattern in EXPECTED.get(name, []):
        if not any(re.search(pattern, line) for line in lines):
            return f"{pattern!r} is missing or out of order"
    for code, wanted in re.findall(r"rc=(\d+) \(expected (\d+)", said):
        if code != wanted:
            return f"exit code {code}, expected {wanted}"
    return ""


@pytest.mark.slow
@pytest.mark.timeout(LIMIT + 60)
@pytest.mark.skipif(not CASES, reason="SRFAST_CASES names no folder of cases")
@pytest.mark.skipif(not shutil.which("ffprobe"), reason="ffmpeg and ffprobe are not on the PATH")
@pytest.mark.parametrize("name", CASES)
def test_case(name: str, tmp_path: Path, table: dict[str, tuple[float, str]]) -> None:
    start = time.monotonic()
    said = run(FOLDER / name / "run.sh", tmp_path)
    print(said)
    wrong = fault(name, said)
    if name not in EXPECTED:
        wrong = wrong or "nobody has written what it prints where it is right"
    table[name] = time.monotonic() - start, wrong or "right"
    assert not wrong
