"""``srfast warm``: every form of frame goes once through the engine, and it says so where nothing is compiled."""

from __future__ import annotations

import re

import pytest
import torch

from srfast.cli import main
from srfast.cli.warm import _run_once
from srfast.engine.engine import Engine
from srfast.kernels.planes import PlaneColour


class Recorder:
    """What ``_run_once`` uses of an engine."""

    takes_bgr = True
    plane_unit = 4

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], torch.dtype, object]] = []
        self.plan = self

    in_channels = 3

    def __call__(self, images: torch.Tensor, *, bgr: bool) -> None:
        self.seen.append((tuple(images.shape), images.dtype, bgr))

    def begin(self, images: torch.Tensor, *, colour: PlaneColour) -> object:
        self.seen.append((tuple(images.shape), images.dtype, colour))
        return lambda: None


def test_every_form_of_frame() -> None:
    recorder = Recorder()
    _run_once(recorder, 8, 12)  # type: ignore[arg-type]
    rgb, planes = (1, 8, 12, 3), (1, 12, 12, 1)
    kind = torch.uint8
    assert recorder.seen == [(rgb, kind, False), (rgb, kind, True), (planes, kind, PlaneColour())]
    odd = Recorder()
    _run_once(odd, 7, 12)  # type: ignore[arg-type]
    assert [bgr for _, _, bgr in odd.seen] == [False, True]


def test_on_the_cpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    monkeypatch.setattr("srfast.cli.warm._run_once", lambda engine, height, width: sizes.append((height, width)))
    assert main(["warm", "compact_x2", "--size", "20x12", "--size", "8x10", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert sizes == [(12, 20), (10, 8)]
    assert re.search(r"^compact_x2 20x12 by \w+: \d+\.\d s\n", said)
    assert "on the cpu nothing is compiled" in said


def test_an_engine_takes_it() -> None:
    """The forms are ones that a real engine takes."""
    import srfast

    with srfast.load("compact_x2", device="cpu") as upscaler:
        assert isinstance(upscaler.engine, Engine)
        _run_once(upscaler.engine, 5, 7)


@pytest.mark.parametrize("size", ["20", "0x4", "4x4x4"])
def test_sizes(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["warm", "compact_x2", "--size", size])
    assert ended.value.code == 2
    assert "width and a height" in capsys.readouterr().err
