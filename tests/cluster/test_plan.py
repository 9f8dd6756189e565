"""Plans are read strictly: what is not as srfast writes it is refused in at most three lines that say where."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srfast import cluster
from srfast.cluster.plan import Plan, parse_plan, read_plan
from srfast.cluster.segment import packets_in, record_of, segment_path
from srfast.errors import InputError, OutputError
from srfast.video import Encoding, InputOptions
from tests.helpers.video.children import save_tiny
from tests.helpers.video.segments import LOSSLESS, in_segments, moving_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of three segments, all of them there, as in.mp4, plan.json and plan.segments."""
    folder = tmp_path_factory.mktemp("plan")
    model = save_tiny(folder / "tiny.pth")
    clip = moving_clip(folder / "in.mp4", frames=30)
    in_segments(clip, folder, folder / "plan.mkv", model, seconds=0.3)
    return folder


@pytest.fixture
def plan(folder: Path) -> Plan:
    return cluster.read_plan(folder / "plan.json")


def test_whole_numbers_make_the_plan_that_is_read(folder: Path, tmp_path: Path) -> None:
    """A crf of 18 and times of whole seconds are read as 18.0, and one digest has to name both."""
    made = cluster.split(
        folder / "in.mp4",
        tmp_path / "plan.json",
        str(folder / "tiny.pth"),
        device="cpu",
        encoding=Encoding("libx264", crf=18),
        input_options=InputOptions(start=1, end=2),
        seconds=1,
    )
    read = read_plan(tmp_path / "plan.json")
    assert (read, read.digest) == (made, made.digest)


def test_a_plan_is_read_as_it_was_made(plan: Plan) -> None:
    assert parse_plan(plan.to_json()) == plan
    assert parse_plan(plan.to_json()).digest == plan.digest
    assert len(plan.segments) == 3


def changed(function: Callable[[dict], Any]) -> Callable[[dict], str]:
    def make(value: dict) -> str:
        function(value)
        return json.dumps(value)

    return make


BROKEN = {
    "no JSON": (lambda value: "{", "is no JSON"),
    "a list": (lambda value: "[]", "has no 'schema'"),
    "schema 2": (changed(lambda v: v.update(schema=2)), "has schema 2, and this srfast reads 1"),
    "schema true": (changed(lambda v: v.update(schema=True)), "has schema True"),
    "missing": (changed(lambda v: v.pop("segments")), "segments is missing"),
    "unknown": (changed(lambda v: v.update({"x\x1b[2J": 1})), r"x\\x1b\[2J is unknown"),
    "a text": (changed(lambda v: v["segments"][1].update(first="7")), r"segments\[1\].first is '7'; an integer"),
    "a bool": (changed(lambda v: v["segments"][0].update(frames=True)), r"segments\[0\].frames is true or false"),
    "no segments": (changed(lambda v: v.update(segments=[])), "segments is an empty list"),
    "container": (changed(lambda v: v.update(container="exe")), "container is 'exe'"),
    "times": (changed(lambda v: v["reading"].update(start=-1)), "start takes seconds from 0"),
    "options": (changed(lambda v: v["encoding"].update(options=["a"])), "encoding.options is a list; an object"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_other_plans_are_refused(plan: Plan, name: str) -> None:
    make, message = BROKEN[name]
    with pytest.raises(InputError, match=message) as caught:
        parse_plan(make(json.loads(plan.to_json())))
    assert (
        str(caught.value).count("\n") <= 2 and "srfast split" in str(caught.value) and "\x1b" not in str(caught.value)
    )


def test_bytes_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no text"):
        cluster.read_plan(tmp_path / "plan.json")
    with pytest.raises(InputError, match=r"cannot read the plan .*none.json: No such file"):
        cluster.read_plan(tmp_path / "none.json")


def other(plan: Plan, function: Callable[[dict], Any]) -> Plan:
    value = json.loads(plan.to_json())
    function(value)
    return parse_plan(json.dumps(value))


def test_other_versions_sources_models_and_encoders_are_refused(plan: Plan, tmp_path: Path) -> None:
    cases = [
        (lambda v: v.update(srfast="0.0.9"), OutputError, "was made by srfast '0.0.9', and this is"),
        (lambda v: v["source"].update(sha256="0" * 64), InputError, "is not the file that was split"),
        (lambda v: v["source"].update(path=str(tmp_path / "gone.mp4")), InputError, "cannot read .*gone.mp4"),
        (lambda v: v.update(fingerprint="0"), InputError, "is not the one that the plan was made with"),
        (lambda v: v["encoder"].update(codec="huffyuv"), OutputError, r"settled otherwise here .*\(codec\)"),
    ]
    for change, kind, message in cases:
        with pytest.raises(kind, match=message):
            cluster.run_segment(other(plan, change), 0, tmp_path / "segments")
        assert not list(tmp_path.glob("segments/*.segment"))


def test_a_segment_that_is_there_is_left_as_it_is(plan: Plan, folder: Path) -> None:
    path = segment_path(folder / "plan.segments", 1)
    before = path.stat().st_mtime_ns, path.read_bytes()
    record = cluster.run_segment(plan, 1, folder / "plan.segments")
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert record.frames == 10 == plan.segments[1].frames


def test_plans_beside_each_other_have_folders_of_their_own(folder: Path, tmp_path: Path) -> None:
    """Plans whose names differ in any part: segments in one folder would take each other's place."""
    names = ["film.json", "film", "film.a", "film.b", "film.segments", "film.a.json", "film.JSON", ".json"]
    assert len({cluster.segments_folder(tmp_path / name) for name in names}) == len(names)
    model, source = str(folder / "tiny.pth"), folder / "in.mp4"
    made = {}
    for name, container in (("film.a", "mkv"), ("film.b", "mov")):
        made[name] = cluster.split(source, tmp_path / name, model, device="cpu", container=container, seconds=0.3)
    for name, plan in made.items():
        for number in range(len(plan.segments)):
            cluster.run_segment(plan, number, cluster.segments_folder(tmp_path / name))
    for name, plan in made.items():
        target = tmp_path / f"{name}.{plan.container.replace('matroska', 'mkv')}"
        assert cluster.join(plan, cluster.segments_folder(tmp_path / name), target).result.frames == 30


@pytest.mark.parametrize("number", [-1, 3])
def test_numbers_of_no_segment_are_refused(plan: Plan, folder: Path, number: int) -> None:
    with pytest.raises(InputError, match=f"there is no segment {number}: the plan has 3, from 0"):
        cluster.run_segment(plan, number, folder / "plan.segments")


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_damaged_segment_is_no_segment_and_is_made_again(plan: Plan, folder: Path, place: float) -> None:
    path = segment_path(folder / "plan.segments", 2)
    good = path.read_bytes()
    bad = bytearray(good)
    bad[int(place * len(bad))] ^= 1
    path.write_bytes(bad)
    try:
        assert record_of(path, plan) is None
        with pytest.raises(InputError, match=r"1 of 3 segments are missing or damaged in .*: 2\n"):
            cluster.join(plan, folder / "plan.segments", folder / "again.mkv")
        assert cluster.run_segment(plan, 2, folder / "plan.segments").frames == 10
        assert record_of(path, plan) is not None
    finally:
        path.write_bytes(good)


def test_a_process_that_comes_as_another_ends_does_not_touch_its_segment(
    plan: Plan, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = segment_path(folder / "plan.segments", 1).read_bytes()
    partial = segment_path(tmp_path, 1).with_suffix(".partial")
    partial.write_bytes(good)  # the other one has written all, and still has the lock when this one opens the file
    real, calls = fcntl.flock, []

    def flock(file: Any, operation: int) -> None:
        if not calls:
            partial.rename(segment_path(tmp_path, 1))
        calls.append(operation)
        real(file, operation)

    monkeypatch.setattr("srfast.video.journal.fcntl.flock", flock)
    assert cluster.run_segment(plan, 1, tmp_path).frames == 10
    assert len(calls) == 2
    record = record_of(segment_path(tmp_path, 1), plan)
    assert record is not None and record.frames == 10
    assert [path.name for path in tmp_path.iterdir()] == ["000001.segment"]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_a_segment_that_was_cut_off_goes_on(plan: Plan, folder: Path, tmp_path: Path, share: float) -> None:
    path = segment_path(folder / "plan.segments", 1)
    good = path.read_bytes()
    segment_path(tmp_path, 1).with_suffix(".partial").write_bytes(good[: int(share * len(good))])
    assert cluster.run_segment(plan, 1, tmp_path).frames == 10
    made = segment_path(tmp_path, 1)
    assert [bytes(p) for p in packets_in(made)] == [bytes(p) for p in packets_in(path)]
    assert [file.name for file in tmp_path.iterdir()] == ["000001.segment"]


def test_outputs_of_another_container_are_refused(plan: Plan, folder: Path) -> None:
    with pytest.raises(OutputError, match=r"the plan is for a file in matroska, not for .*out.mp4"):
        cluster.join(plan, folder / "plan.segments", folder / "out.mp4")


def test_what_cannot_be_split_is_refused(folder: Path, tmp_path: Path) -> None:
    model = str(folder / "tiny.pth")
    with pytest.raises(InputError, match="the standard input cannot be split"):
        cluster.split("-", tmp_path / "plan.json", model, container="mkv")
    with pytest.raises(ValueError, match="a positive number of seconds, not 0"):
        cluster.split(folder / "in.mp4", tmp_path / "plan.json", model, seconds=0)
    with pytest.raises(OutputError, match=r"plan.json exists; give -y"):
        cluster.split(folder / "in.mp4", folder / "plan.json", model)
    with pytest.raises(OutputError, match="no encoder called 'none'"):
        cluster.split(folder / "in.mp4", tmp_path / "plan.json", model, encoding=type(LOSSLESS)("none"))
    assert not list(tmp_path.iterdir())
