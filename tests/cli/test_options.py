"""Parsed command lines: every option of ``srfast upscale`` has one field, of the same name and default."""

from __future__ import annotations

import argparse
from dataclasses import FrozenInstanceError, fields

import pytest

from srfast.cli.main import _parser
from srfast.cli.options import _USELESS, Kind, UpscaleOptions, check_applicable, load_arguments

# What is no option of the work itself.
OTHERS = {"paths", "queue", "input", "output", "verbose", "help"}


def parsed(*arguments: str) -> UpscaleOptions:
    return UpscaleOptions.of(_parser().parse_args(["upscale", *arguments]))


def names() -> set[str]:
    return {f.name for group in fields(UpscaleOptions) for f in fields(group.default)}


def test_every_option_has_a_field() -> None:
    commands = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert {action.dest for action in commands.choices["upscale"]._actions} - OTHERS == names()


def test_defaults_are_those_of_the_parser() -> None:
    assert parsed("a", "b") == UpscaleOptions()
    assert parsed("a", "b").given() == []


def test_given_options_are_known_and_cannot_be_changed() -> None:
    options = parsed("a", "b", "-s", "2", "-e", "preset=fast", "-e", "tune=film", "--frames", "0", "--no-copy-data")
    assert sorted(options.given()) == ["encoder_option", "frames", "no_copy_data", "outscale"]
    assert options.video.encoding().options == {"preset": "fast", "tune": "film"}
    assert "data" not in options.video.copied()
    with pytest.raises(FrozenInstanceError):
        options.run.frames = 3  # type: ignore[misc]


def test_each_kind_says_what_it_has_no_use_for() -> None:
    assert set(_USELESS) == set(Kind)
    assert all(set(useless) <= names() for useless in _USELESS.values())
    with pytest.raises(ValueError, match="--max-latency does nothing for several files: it is for videos"):
        check_applicable(parsed("a", "b", "--max-latency", "40ms"), Kind.FILES)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("--fp32 --dtype bf16", "--fp32 and --dtype bf16 are two dtypes: give one of them"),
        ("--device cpu -g 1", "--device cpu and --gpu-id 1 are two devices: give one of them"),
        ("--device cuda:0 -g 1", "--device cuda:0 and --gpu-id 1 are two devices: give one of them"),
    ],
)
def test_options_that_contradict_each_other(given: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_arguments(parsed("a", "b", *given.split()).model, "image")


@pytest.mark.parametrize(
    ("given", "device", "dtype"),
    [
        ("", None, None),
        ("--fp32 --dtype fp32", None, "fp32"),
        ("-g 1", "cuda:1", None),
        ("--device cuda -g 1", "cuda:1", None),
        ("--device cuda:1 -g 1 --dtype fp16", "cuda:1", "fp16"),
    ],
)
def test_options_that_agree(given: str, device: str | None, dtype: str | None) -> None:
    arguments = load_arguments(parsed("a", "b", *given.split()).model, "image")
    assert (arguments["device"], arguments["dtype"]) == (device, dtype)
