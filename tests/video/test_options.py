"""The options that runs on one machine and on many share; no device."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

from srfast.upscaler import LoadKeywords, Upscaler, UpscalerKeywords, load
from srfast.video import Encoding, InputOptions, upscale_video
from srfast.video.options import UpscalingKeywords, UpscalingOptions


def keywords_of(function: object) -> set[str]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_signatures_have_the_keywords_of_what_they_call() -> None:
    assert set(UpscalingKeywords.__annotations__) == {field.name for field in fields(UpscalingOptions)}
    assert set(UpscalerKeywords.__annotations__) == keywords_of(Upscaler.__init__)
    assert set(LoadKeywords.__annotations__) - set(UpscalerKeywords.__annotations__) == keywords_of(load)


def test_none_is_the_default() -> None:
    assert UpscalingOptions.of({"encoding": None, "input_options": None, "copy": ()}) == UpscalingOptions(copy=())
    assert UpscalingOptions() == UpscalingOptions(Encoding(), ("audio", "subtitle", "attachment", "data", "video"))
    assert UpscalingOptions().input_options == InputOptions()


def test_others_go_to_the_network() -> None:
    how, network = UpscalingOptions.parted({"strict": True, "device": "cpu", "reuse": False, "tile": 0})
    assert how == UpscalingOptions(strict=True, reuse=False)
    assert network == {"device": "cpu", "tile": 0}


def test_a_misspelt_option_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="stricd"):
        upscale_video(tmp_path / "in.mp4", tmp_path / "out.mp4", stricd=True)  # type: ignore[call-arg]
