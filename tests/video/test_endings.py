"""How runs end: after so many seconds' work, by signals, on full disks, with other streams on --resume, under any name."""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from srfast._names import openable, utf8
from srfast.cli import main
from srfast.cli.signals import Terminated, ends_in_order, exit_code
from srfast.errors import OutputError, escaped
from srfast.video import segments as segments_module
from srfast.video import upscale_video
from srfast.video.encoder import _repeatable
from srfast.video.journal import Journal, journal_path
from srfast.video.segments import SEGMENT as LONGEST
from srfast.video.segments import Segments
from tests.helpers.video.children import SEGMENT, save_tiny, start, tiny, upscale
from tests.helpers.video.gradients import frame_times, leftovers, make_clip, packets

FRAMES = 40
ALL = ("audio", "subtitle", "attachment", "data")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("in") / "in.mkv", [40 * i for i in range(FRAMES)], audio=True)


def frames_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as c:
        return [f.to_ndarray(format="rgb24").tobytes() for f in c.decode(video=0)]


@pytest.fixture(scope="module")
def whole(clip: Path) -> Path:
    upscale_video(clip, clip.with_name("whole.mkv"), tiny(), segment=SEGMENT)
    return clip.with_name("whole.mkv")


def interrupt_at(frame: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[Any], None]:
    def stop(progress: Any) -> None:
        if progress.done >= frame:
            raise error

    return stop


def test_segments_end_by_count_by_cost_and_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(segments_module.time, "monotonic", lambda: clock[0])
    count = Segments(None)
    assert [n for n in range(1, 2 * LONGEST + 1) if count.ended(n)] == [LONGEST, 2 * LONGEST]
    cost = Segments(None, lambda: 7.0)  # four frames are 28 seconds
    assert [n for n in range(1, 13) if cost.ended(n)] == [4, 8, 12]
    slow = Segments(None, lambda: 100.0)
    assert [n for n in range(1, 4) if slow.ended(n)] == [1, 2, 3]
    waiting = Segments(None)  # an encoder, a disk or an input is what is slow
    for n in range(1, 20):
        clock[0] += 6
        assert waiting.ended(n) == (n % 5 == 0)
    settled = Segments(3, lambda: 100.0)
    assert [n for n in range(1, 8) if settled.ended(n)] == [3, 6]


def test_the_measured_length_is_that_of_the_resumed_run(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key frames come where those of the run that settled the length come, however fast the machine is by then."""
    monkeypatch.setattr(segments_module.Segments, "_is_long", lambda self, frames: frames >= 7)
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(clip, target, tiny(), on_progress=interrupt_at(20))
    monkeypatch.setattr(segments_module.Segments, "_is_long", lambda self, frames: frames >= 3)
    result = upscale_video(clip, target, tiny(), resume=True)
    assert result.resumed in (7, 14)
    monkeypatch.undo()
    upscale_video(clip, tmp_path / "same.mkv", tiny(), segment=7)
    assert frames_of(target) == frames_of(tmp_path / "same.mkv")
    with av.open(str(target)) as c:
        keys = [p.pts // 40 for p in c.demux(video=0) if p.size and p.is_keyframe]
    assert keys == [0, 7, 14, 21, 28, 35]


@pytest.mark.parametrize("finished", [False, True])
def test_other_streams_on_resume(
    tmp_path: Path, clip: Path, whole: Path, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after all frames were computed: those that were left out are read again, those that failed are left out."""

    def refuse(*args: object, **options: object) -> None:
        raise ValueError("no")

    target = tmp_path / "out.mkv"
    if finished:
        with monkeypatch.context() as patch:
            patch.setattr("srfast.video.sinks.write_container", refuse)
            with pytest.raises(OutputError, match=r"40 frames are kept in .*--resume"):
                upscale_video(clip, target, tiny(), segment=SEGMENT, copy=())
    else:
        with pytest.raises(KeyboardInterrupt):
            upscale_video(clip, target, tiny(), segment=SEGMENT, copy=(), on_progress=interrupt_at(25))
    computed: list[int] = []
    result = upscale_video(
        clip, target, tiny(), segment=SEGMENT, resume=True, on_progress=lambda p: computed.append(p.done)
    )
    assert result.resumed == (FRAMES if finished else result.resumed) and result.resumed > 0
    assert len(computed) == FRAMES - result.resumed
    assert frames_of(target) == frames_of(whole)
    assert packets(target, "audio") == packets(clip, "audio")
    with av.open(str(target)) as c:  # in the order of their times, though the sound came after all
        order = [float(p.dts * p.time_base) for p in c.demux() if p.size and p.dts is not None]
    assert max(a - b for a, b in itertools.pairwise(order)) < 1


def test_x264_makes_the_same_of_the_same_frames(tmp_path: Path, clip: Path, whole: Path) -> None:
    """Its AVX-512 kernels do not, so a CPU that has them does without; whoever names others gets them."""
    for _ in range(3):
        upscale_video(clip, tmp_path / "again.mkv", tiny(), segment=SEGMENT, overwrite=True)
        assert frames_of(tmp_path / "again.mkv") == frames_of(whole)
    named = {"x264-params": "asm=sse4.2"}
    assert _repeatable("libx264", named) == named and _repeatable("libx265", {}) == {}


def test_fewer_streams_on_resume(tmp_path: Path, clip: Path, whole: Path) -> None:
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(clip, target, tiny(), segment=SEGMENT, on_progress=interrupt_at(25))
    upscale_video(clip, target, tiny(), segment=SEGMENT, resume=True, copy=())
    assert frames_of(target) == frames_of(whole)
    with av.open(str(target)) as c:
        assert [s.type for s in c.streams] == ["video"]


@pytest.mark.skipif(sys.platform != "linux", reason="forks and kills")
@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])
def test_killed_with_other_streams_each_time(tmp_path: Path, clip: Path, whole: Path, kills: int) -> None:
    chance, killed, target = random.Random(kills), 0, tmp_path / "out.mkv"
    expected, sound = frames_of(whole), packets(clip, "audio")
    while killed < kills:
        process = start(upscale, clip, target, True, None, chance.choice([ALL, (), ("audio",), ("subtitle",)]))
        time.sleep(chance.uniform(0.1, 0.8))
        process.kill()
        process.join(60)
        assert process.exitcode in (-signal.SIGKILL, 0)
        killed += process.exitcode == -signal.SIGKILL
        if target.exists():
            assert frames_of(target) == expected
            target.unlink()
    process = start(upscale, clip, target, True)
    process.join(120)
    assert process.exitcode == 0
    assert frames_of(target) == expected and packets(target, "audio") == sound
    assert leftovers(tmp_path) == ["out.mkv"]


def test_an_old_commit_without_streams(tmp_path: Path) -> None:
    """What an earlier version wrote, or another program changed, is read with what it lacks."""
    journal = Journal(tmp_path / "journal", {"a": 1, "copied streams": []}, resume=False)
    journal.commit_segment(replace(journal.commit, frames=3, packets={1: 2}))
    journal.close(keep=True)
    again = Journal(tmp_path / "journal", {"a": 1, "copied streams": ["audio"]}, resume=True)
    assert (again.commit.frames, again.commit.packets, again.commit.streams) == (3, {1: 2}, None)
    again.close(keep=False)


def test_signals_are_as_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def stopped() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with ends_in_order(), pytest.raises(KeyboardInterrupt) as raised:
        stopped()
    assert exit_code(raised.value) == 143
    assert signal.getsignal(signal.SIGTERM) == before
    told = KeyboardInterrupt("what is left")
    told.__cause__ = Terminated(signal.SIGHUP)
    assert exit_code(told) == 129
    assert exit_code(KeyboardInterrupt()) == 130


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ends_in_order():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def command(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    model = save_tiny(folder / "model" / "tiny.safetensors")
    line = [sys.executable, "-m", "srfast", "upscale", *arguments, "-m", model, "--progress", "none"]
    return subprocess.Popen(line, stderr=subprocess.PIPE, cwd=folder, **options)


def test_a_container_is_stopped(tmp_path: Path) -> None:
    """SIGTERM ends a run in order: it says so, and the next one goes on."""
    make_clip(tmp_path / "in.mkv", [40 * i for i in range(400)], size=(320, 240))
    with command(tmp_path, "in.mkv", "out.mkv") as process:
        journal = journal_path(tmp_path / "out.mkv")
        while not journal.exists() and process.poll() is None:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(60) == 143
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert "interrupted; no output was written" in said and "Traceback" not in said
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_a_full_disk_is_one_line(tmp_path: Path, codec: str) -> None:
    """A limit on the size of a file stands for it."""
    make_clip(tmp_path / "in.mkv", [40 * i for i in range(300)], size=(160, 120), options={"crf": "1"})
    limit = 400_000 if codec == "libx264" else 60_000

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with command(
        tmp_path, "in.mkv", "out.mkv", "-c", codec, preexec_fn=limited, env={**os.environ, "SVT_LOG": "1"}
    ) as p:
        assert p.stderr is not None
        said = p.stderr.read().decode()
        assert p.wait(120) == OutputError.exit_code
    lines = said.strip().splitlines()
    assert len(lines) == 1, said
    assert lines[0].startswith("srfast: error: cannot write the output: File too large")
    if journal_path(tmp_path / "out.mkv").exists():
        assert "frames are kept" in lines[0] and "--resume" in lines[0]


BAD = os.fsdecode(b"bad\xff\x1b[31m")  # a byte that is no UTF-8, and one that would colour a terminal


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take only UTF-8")
def test_names_that_are_not_utf8(tmp_path: Path, clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = save_tiny(tmp_path / "model" / "tiny.safetensors")
    folder = tmp_path / f"{BAD} folder"
    (folder / "pictures").mkdir(parents=True)
    source = folder / f"{BAD}.mkv"
    source.write_bytes(clip.read_bytes())
    for name in (f"{BAD}.mp4", "12:30.mp4", f"{BAD}.y4m"):
        assert main(["upscale", str(source), str(folder / name), "-m", model, "--frames", "3"]) == 0
        assert (folder / name).stat().st_size > 0
    pattern = folder / "pictures" / "%02d.png"
    assert main(["upscale", str(source), str(pattern), "-m", model, "--frames", "3"]) == 0
    assert leftovers(pattern.parent) == ["01.png", "02.png", "03.png"]
    assert main(["upscale", str(pattern), str(folder / "back.mkv"), "-m", model]) == 0
    assert len(frame_times(folder / "back.mkv")) == 3
    (pattern.parent / f"{BAD}.png").write_bytes((pattern.parent / "01.png").read_bytes())
    assert main(["upscale", str(pattern.parent), str(folder / "large"), "-m", model]) == 0
    assert len(leftovers(folder / "large")) == 4
    assert main(["upscale", str(pattern.parent / f"{BAD}.png"), str(folder / f"{BAD}.png"), "-m", model]) == 0
    assert main(["upscale", str(folder / f"{BAD} none.mkv"), str(folder / "o.mkv"), "-m", model]) == 6
    said = capfd.readouterr().err
    assert "bad\\xff\\x1b[31m none.mkv is missing" in said and "\x1b[31m" not in said


def test_a_name_in_another_locale(tmp_path: Path) -> None:
    """Under an ASCII locale Python keeps UTF-8 names as bytes that it cannot read; libraries get them as they are."""
    cv2.imwrite(str(tmp_path / "in.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "in.png").rename(tmp_path / "日本.png")
    with command(
        tmp_path, "日本.png", "c.png", env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(60) == 0, said
    assert (tmp_path / "c.png").exists()


def test_openable_names(tmp_path: Path) -> None:
    plain = tmp_path / "a.txt"
    plain.write_text("here")
    with openable(plain) as name:
        assert name == str(plain)
    assert utf8(BAD) is None
    assert escaped(BAD + "\n\x7f\u2028") == "bad\\xff\\x1b[31m\\n\\x7f\\u2028"
    if sys.platform == "linux":
        odd = tmp_path / BAD
        odd.write_text("there")
        before = set(os.listdir("/proc/self/fd"))
        with openable(odd) as name:
            assert Path(name).read_text() == "there"
        assert set(os.listdir("/proc/self/fd")) == before
        with pytest.raises(FileNotFoundError), openable(tmp_path / f"{BAD}2"):
            pass


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_decoding_times_of_x265_are_not_what_the_memory_held(tmp_path: Path, frames: int) -> None:
    """Of one or two frames it tells none, as in every rehearsal; memory is filled, so that it shows."""
    source = make_clip(tmp_path / "in.mkv", [40 * i for i in range(frames)])
    model, target = save_tiny(tmp_path / "tiny.pth"), tmp_path / "out.mp4"
    words = ["upscale", str(source), str(target), "-m", model, "-c", "libx265", "--progress", "none"]
    words += ["--encoder-option", "x265-params=log-level=none", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "srfast", *words],
        env=os.environ | {"MALLOC_PERTURB_": "85"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with av.open(str(target)) as c:
        times = [(p.dts, p.pts, p.time_base) for p in c.demux(video=0) if p.size]
    assert len(times) == frames
    assert all(-1 < dts * base <= pts * base for dts, pts, base in times)
    assert all(a < b for (a, *_), (b, *_) in itertools.pairwise(times))
