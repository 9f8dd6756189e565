"""SPAN, RealPLKSR, Real-CUGAN, RCAN, IMDN, RTMoSR, ...: against functions over their keys, and what other programs gave."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from srfast.capture import capture
from srfast.checkpoint import load_model, save_checkpoint
from srfast.engine import Engine
from srfast.errors import CheckpointError
from srfast.plan.passes import optimise
from srfast.planning import plan_network
from tests.helpers.networks import distilled, modern
from tests.helpers.networks.public import Size, Weights

Network = Callable[[Weights, Tensor], Tensor]


def sized(network: Callable[[Weights, Tensor, Size], Tensor], size: Size) -> Network:
    return lambda w, x: network(w, x, size)


# Network, architecture, enlargement, sides of the image, and of spandrel 0.4.2's result (float32, CPU): mean, standard
# deviation, and the values at [0, 1, 5, 7] and [0, 2, -1, -1]; None where spandrel has no such network. Those of IMDN and
# RTMoSR are of their own programs (Zheng222/IMDN, traiNNer-redux).
CASES: dict[str, tuple[Network, str, int, tuple[int, int], tuple[float, ...] | None]] = {
    "span": (sized(modern.span, Size(8, 6, 1)), "SPAN", 2, (37, 46), (-0.005125, 0.318644, -0.612032, 0.048160)),
    "span_x4": (sized(modern.span, Size(6, 6, 2)), "SPAN", 4, (37, 46), (-0.003595, 0.239450, -0.104186, -0.028396)),
    "span_no_norm": (
        sized(modern.span_without_mean, Size(8, 6, 1)),
        "SPAN",
        2,
        (37, 46),
        (-0.176281, 0.669348, -0.837875, -0.034645),
    ),
    "spanf3": (sized(modern.spanf3, Size(8, 3, 2)), "SPANF3", 4, (37, 46), None),
    "spanf3_x2": (sized(modern.spanf3_unshuffled, Size(8, 3, 1)), "SPANF3", 2, (37, 46), None),
    "spanf3_x1": (sized(modern.spanf3_unshuffled, Size(8, 3, 0)), "SPANF3", 1, (37, 46), None),
    "artcnn": (sized(modern.artcnn, Size(8, 2, 1)), "ArtCNN", 2, (37, 46), None),
    "plksr": (sized(modern.plksr, Size(8, 2, 1)), "RealPLKSR", 2, (37, 46), (-0.064800, 0.895311, 0.906962, 0.474414)),
    "plksr_groups": (
        sized(modern.plksr_groups, Size(8, 2, 2)),
        "RealPLKSR",
        4,
        (37, 46),
        (0.346978, 2.001697, 0.742307, 1.386074),
    ),
    "plksr_dysample": (
        sized(modern.plksr_dysample, Size(8, 2, 1)),
        "RealPLKSR",
        2,
        (37, 46),
        (0.425690, 0.343326, -0.058493, -0.346545),
    ),
    "plksr_dysample_x3": (
        sized(modern.plksr_dysample, Size(8, 1, 1, 3)),
        "RealPLKSR",
        3,
        (37, 46),
        (0.325877, 0.960599, 0.765024, 1.183423),
    ),
    "mosr": (sized(modern.mosr, Size(8, 2, 1)), "MoSR", 2, (37, 46), (-0.201789, 0.634107, -0.120437, -0.352886)),
    "mosr_ensemble": (
        sized(modern.mosr_ensemble, Size(6, 2, 2)),
        "MoSR",
        4,
        (37, 46),
        (-0.046988, 0.270261, -0.164843, 0.152996),
    ),
    "mosr_dysample": (
        sized(modern.mosr_dysample, Size(8, 2, 1)),
        "MoSR",
        2,
        (37, 46),
        (-0.339163, 0.437476, -0.559558, -0.770769),
    ),
    "rcan": (sized(modern.rcan, Size(8, 2, 1)), "RCAN", 2, (37, 46), (0.430524, 0.673448, 0.081427, 0.411037)),
    "rcan_x3": (sized(modern.rcan, Size(8, 2, 1, 3)), "RCAN", 3, (37, 46), (0.434579, 0.711886, 0.897230, 0.543840)),
    "rcan_unshuffled": (
        sized(modern.rcan_unshuffled, Size(8, 2, 1)),
        "RCAN",
        2,
        (37, 46),
        (0.152770, 1.052889, -1.001143, 0.538751),
    ),
    "cugan_x2": (
        partial(modern.cugan, scale=2),
        "Real-CUGAN",
        2,
        (37, 46),
        (-0.340161, 0.450266, -1.251500, -0.393633),
    ),
    "cugan_x2_pro": (
        partial(modern.cugan, scale=2, pro=True),
        "Real-CUGAN",
        2,
        (37, 46),
        (-0.707757, 0.599997, -1.987227, -0.944490),
    ),
    "cugan_x3": (
        partial(modern.cugan, scale=3),
        "Real-CUGAN",
        3,
        (37, 46),
        (-0.162707, 0.664471, 0.393584, -0.741545),
    ),
    "cugan_x3_pro": (
        partial(modern.cugan, scale=3, pro=True),
        "Real-CUGAN",
        3,
        (37, 46),
        (-0.446254, 0.916813, 0.239598, -1.291394),
    ),
    "cugan_x4": (partial(modern.cugan, scale=4), "Real-CUGAN", 4, (37, 46), (0.457744, 0.880152, 0.652733, 0.851935)),
    "cugan_x4_pro": (
        partial(modern.cugan, scale=4, pro=True),
        "Real-CUGAN",
        4,
        (37, 46),
        (0.436202, 1.178234, 0.575081, 1.155579),
    ),
    "cugan_fast": (
        partial(modern.cugan, scale=2, fast=True),
        "Real-CUGAN",
        2,
        (44, 48),
        (0.565426, 1.019511, 0.427462, 0.944733),
    ),
    "cugan_fast_odd": (partial(modern.cugan, scale=2, fast=True), "Real-CUGAN", 2, (45, 50), None),
    "imdn": (sized(distilled.imdn, Size(16, 6, 1)), "IMDN", 2, (37, 46), (-0.097145, 0.925226, 0.57892, 0.08001)),
    "imdn_x4": (sized(distilled.imdn, Size(32, 6, 2)), "IMDN", 4, (37, 46), (0.002618, 0.78155, 0.676682, -0.312013)),
    "rtmosr": (sized(distilled.rtmosr, Size(8, 2, 1)), "RTMoSR", 2, (37, 46), (0.379691, 0.449775, 0.296771, 0.41569)),
    "rtmosr_unshuffled": (
        sized(partial(distilled.rtmosr, unshuffle=2), Size(8, 2, 1)),
        "RTMoSR",
        2,
        (37, 46),
        (0.568177, 0.520418, 1.374726, 1.158458),
    ),
    "rtmosr_light": (
        sized(partial(distilled.rtmosr, unshuffle=4, light=True), Size(8, 1, 0)),
        "RTMoSR",
        1,
        (37, 46),
        (0.527317, 0.459431, 0.187124, 0.447411),
    ),
    "rtmosr_plain": (
        sized(partial(distilled.rtmosr, gated=False), Size(8, 2, 2)),
        "RTMoSR",
        4,
        (37, 46),
        (0.561917, 1.09397, 0.227194, 1.592217),
    ),
    "cugan_nose": (partial(modern.cugan, scale=2, se=False), "Real-CUGAN", 2, (37, 46), None),
}
GLOBAL = (
    "rcan",
    "cugan",
    "plksr_groups",
    "plksr_dysample",
    "mosr_dysample",
    "imdn",
)  # with means over the whole image, but for "nose"


def made(name: str) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """A state_dict, an image and the network's result for it."""
    network, _, _, shape, _ = CASES[name]
    generator = torch.Generator().manual_seed(11)
    weights = Weights(generator)
    x = torch.rand(1, 3, *shape, generator=generator)
    with torch.inference_mode():
        return weights.state, x, network(weights, x)


def agree(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("name", CASES)
def test_found_with_the_same_output(tmp_path: Path, name: str) -> None:
    state, x, expected = made(name)
    torch.save(state, tmp_path / "w.pth")
    model = load_model(tmp_path / "w.pth")
    _, architecture, scale, shape, stored = CASES[name]
    assert (model.architecture, model.scale) == (architecture, scale)
    assert tuple(expected.shape[2:]) == (scale * shape[0], scale * shape[1])
    got = model.module(x)
    agree(got, expected)
    if stored is not None:
        found = (got.mean(), got.std(), got[0, 1, 5, 7], got[0, 2, -1, -1])
        assert [float(v) for v in found] == pytest.approx(stored, abs=2e-5)
    # What is written again is the same network.
    save_checkpoint(model.module, tmp_path / "again.safetensors", facts=model)
    copy = load_model(tmp_path / "again.safetensors")
    assert (copy.architecture, copy.scale, copy.layout, copy.values) == (
        model.architecture,
        model.scale,
        model.layout,
        model.values,
    )
    assert torch.equal(copy.module(x), got)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", CASES)
def test_plan_and_tiles(tmp_path: Path, name: str, backend: str) -> None:
    """Float32 on the CPU; an image of the values that the network gives inside 0..1."""
    state, x, expected = made(name)
    torch.save(state, tmp_path / "w.pth")
    plan = plan_network(load_model(tmp_path / "w.pth").module)
    images = x.permute(0, 2, 3, 1)
    whole = Engine(plan, backend=backend, device="cpu", dtype=torch.float32)
    got = whole(images)
    agree(got.permute(0, 3, 1, 2), expected.clamp(0, 1))
    assert got.std() > 0.05
    # RTMoSR without its gates looks at nothing but neighbours.
    gated = name.startswith("rtmosr") and any(".squeezing." in key for key in state)
    if gated or (name.startswith(GLOBAL) and not name.endswith("nose")):
        assert whole.halo is None
        return
    tiled = Engine(plan, backend=backend, device="cpu", dtype=torch.float32, tile=16)
    torch.testing.assert_close(
        tiled(images), got, rtol=0, atol=0 if backend == "cpu" and not name.startswith("mosr") else 1e-5
    )
    assert tiled.statistics.tiles >= 4


def test_the_stored_sum_of_three_convolutions_is_not_trusted(tmp_path: Path) -> None:
    """It is taken only where the three are not there."""
    state, x, expected = made("span")
    assert not state["conv_1.eval_conv.weight"].any()
    torch.save(state, tmp_path / "w.pth")
    module: Any = load_model(tmp_path / "w.pth").module
    slim = {key: v for key, v in state.items() if ".sk." not in key and ".conv." not in key}
    for name, value in module.state_dict().items():
        part, _, what = name.rpartition(".")
        if f"{part}.eval_conv.{what}" in slim:
            slim[f"{part}.eval_conv.{what}"] = value
    torch.save(slim, tmp_path / "slim.pth")
    agree(load_model(tmp_path / "slim.pth").module(x), expected)


def test_receptive_field_of_span(tmp_path: Path) -> None:
    """21 convolutions of 3x3 in a row."""
    state, _, _ = made("span")
    torch.save(state, tmp_path / "w.pth")
    assert optimise(capture(load_model(tmp_path / "w.pth").module)).halo() == 21


@pytest.mark.parametrize(
    ("name", "key", "shape"),
    [
        ("span", "block_2.c1_r.conv.1.weight", (16, 16, 5, 5)),
        ("span", "upsampler.0.weight", (11, 8, 3, 3)),
        ("span", "conv_1.conv.0.weight", (6, 3)),
        ("spanf3_x2", "conv_1.1.sk.weight", (8, 11, 1, 1)),
        ("cugan_x2", "unet1.conv_bottom.weight", (64, 3, 6, 6)),
        ("cugan_x2", "unet2.conv3.seblock.conv1.weight", (16, 64, 1, 1)),
        ("rcan", "tail.0.0.weight", (40, 8, 3, 3)),
        ("rcan", "sub_mean.bias", (4,)),
        ("plksr", "feats.1.lk.conv.weight", (2, 2, 17, 15)),
        ("plksr", "feats.2.refine.weight", (8, 8, 3, 3)),
        ("plksr", "to_img.init_pos", (1, 4)),
        ("artcnn", "res_block.1.conv.2.weight", (8, 8, 5, 5)),
    ],
)
def test_odd_shapes_are_refused(tmp_path: Path, name: str, key: str, shape: tuple[int, ...]) -> None:
    state, _, _ = made(name)
    torch.save(state | {key: torch.ones(shape)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="does not fit it"):
        load_model(tmp_path / "w.pth")
