"""Every layout of state_dict, in every file format, over several sizes: found, with the right values and the same output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.checkpoint import load_model, save_checkpoint
from srfast.checkpoint.registry import LAYOUTS
from srfast.errors import CheckpointError
from srfast.models import SRUGAN, ResidualSR, SRResNet
from srfast.plan.passes import optimise
from tests.checkpoint.test_modern import CASES as MODERN
from tests.helpers.networks import public as public
from tests.helpers.networks import srgans as srgans
from tests.helpers.networks.public import Size, Weights

Network = Callable[[Weights, Tensor, Size], Tensor]
SMALL, TWICE, THRICE = Size(6, 2), Size(5, 3, 1), Size(4, 1, 1, 3)
# Network, architecture, origin's beginning, sizes, options of load_model.
CASES: list[tuple[Network, str, str, list[Size], dict[str, Any]]] = [
    (public.esrgan_old, "RRDBNet", "ESRGAN, first", [SMALL, TWICE, Size(4, 1, 3)], {}),
    (public.esrgan_old, "RRDBNet", "ESRGAN, first", [THRICE], {"scale": 3}),
    (public.esrgan_plus, "ESRGAN+", "nESRGANplus", [SMALL, TWICE], {}),
    (public.esrgan_middle, "RRDBNet", "ESRGAN, BSRGAN", [SMALL, TWICE], {}),
    (public.esrgan_middle, "RRDBNet", "ESRGAN, BSRGAN", [THRICE], {"scale": 3}),
    (public.esrgan_new, "RRDBNet", "BasicSR", [SMALL, Size(8, 1, growth=5)], {}),
    (public.real_esrgan_x2, "RRDBNet", "BasicSR", [SMALL, Size(8, 1, growth=5)], {}),
    (public.real_esrgan_x1, "RRDBNet", "BasicSR", [SMALL], {}),
    (public.msrresnet, "MSRResNet", "BasicSR", [SMALL, TWICE, THRICE], {}),
    (public.msrresnet_old, "MSRResNet", "BasicSR before", [SMALL, TWICE, THRICE], {}),
    (public.msrresnet_mmagic, "MSRResNet", "mmagic", [SMALL, TWICE, THRICE], {}),
    (public.srresnet_basicsr_first, "SRResNet", "BasicSR, first", [SMALL, TWICE], {}),
    (public.srresnet_kair, "SRResNet", "BasicSR, first", [SMALL, TWICE], {}),
    (public.srresnet_kair, "SRResNet", "BasicSR, first", [THRICE], {"scale": 3}),
    (public.srresnet_kair_shuffle, "SRResNet", "BasicSR, first", [SMALL, THRICE], {}),
    (public.compact, "SRVGGNetCompact", "Real-ESRGAN", [SMALL, Size(4, 0, 1), THRICE], {}),
    (public.compact_relu, "SRVGGNetCompact", "Real-ESRGAN", [SMALL, TWICE], {}),
    (public.compact_leaky, "SRVGGNetCompact", "Real-ESRGAN", [SMALL], {"act": "leakyrelu"}),
    (srgans.leftthomas, "SRResNet", "leftthomas", [SMALL, TWICE, Size(4, 5, 3)], {}),
    (srgans.leftthomas_fork, "SRResNet", "leftthomas", [SMALL, TWICE], {}),
    (srgans.lornatang_now, "SRResNet", "srfast, SRGAN-PyTorch", [SMALL, TWICE], {}),
    (srgans.lornatang_2022, "SRResNet", "SRGAN-PyTorch 2022", [SMALL, TWICE], {}),
    (srgans.lornatang_2021_09, "SRResNet", "SRGAN-PyTorch 2021-09", [SMALL, TWICE], {}),
    (srgans.lornatang_2021_09_tanh, "SRResNet", "SRGAN-PyTorch 2021-09", [SMALL], {}),
    (srgans.lornatang_2021_08, "SRResNet", "SRGAN-PyTorch 2021-08", [SMALL, TWICE], {}),
    (srgans.sgrvinod, "SRResNet", "sgrvinod", [SMALL, TWICE], {}),
    (srgans.twtygqyy, "SRResNet", "twtygqyy", [SMALL], {}),
    (srgans.twtygqyy_batch, "SRResNet", "twtygqyy", [SMALL], {}),
    (srgans.aitorzip, "SRResNet", "aitorzip", [SMALL, TWICE], {}),
    (srgans.dongheehand, "SRResNet", "dongheehand", [SMALL, TWICE, THRICE], {}),
    (srgans.fast_srgan, "Fast-SRGAN", "HasnainRaz", [SMALL], {}),
    (srgans.fast_srgan_separable, "Fast-SRGAN", "HasnainRaz", [SMALL], {}),
    (srgans.swift_srgan, "Swift-SRGAN", "Koushik", [SMALL, TWICE], {}),
    (public.edsr, "EDSR", "EDSR-PyTorch", [SMALL, TWICE, THRICE], {}),
    (public.edsr_of_one, "EDSR", "EDSR-PyTorch", [SMALL], {}),
    (public.edsr_basicsr, "EDSR", "BasicSR", [SMALL, TWICE, THRICE], {"res_scale": 0.1}),
]
FLAT = [(f, a, o, size, k) for f, a, o, sizes, k in CASES for size in sizes]
IDS = [f"{f.__name__}-{s.width}x{s.blocks}x{s.scale}" for f, _, _, s, _ in FLAT]
SCALES = {"real_esrgan_x2": 2, "real_esrgan_x1": 1}


def made(network: Network, size: Size, shape: tuple[int, int] = (8, 12)) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """A state_dict, an image and the network's result for it."""
    generator = torch.Generator().manual_seed(size.width * 100 + size.blocks)
    weights = Weights(generator)
    x = torch.rand(1, 3, *shape, generator=generator)
    return weights.state, x, network(weights, x, size)


def agree(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize(("network", "architecture", "origin", "size", "options"), FLAT, ids=IDS)
def test_found_with_the_same_output(
    tmp_path: Path, network: Network, architecture: str, origin: str, size: Size, options: dict[str, Any]
) -> None:
    state, x, expected = made(network, size)
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    model = load_model(path, **options)
    assert (model.architecture, model.scale) == (architecture, SCALES.get(network.__name__, size.scale))
    assert model.layout.startswith(origin)
    arguments = model.arguments
    assert arguments.get("channels", arguments.get("num_feat")) == size.width
    blocks = next(arguments[k] for k in ("num_blocks", "num_block", "num_conv") if k in arguments)
    assert blocks == size.blocks
    if "num_grow_ch" in arguments:
        assert arguments["num_grow_ch"] == size.growth
    agree(model.module(x), expected)
    plan = optimise(capture(model.module))
    agree(ReferenceBackend().compile(plan, x.device, x.dtype)(x), expected)
    # What is written again is the same network, whatever the keys did not tell.
    again = tmp_path / "again.safetensors"
    save_checkpoint(model.module, again, facts=model)
    copy = load_model(again)
    assert (copy.architecture, copy.scale, copy.layout, copy.values) == (
        model.architecture,
        model.scale,
        model.layout,
        model.values,
    )
    assert torch.equal(copy.module(x), model.module(x))


def test_every_layout_is_tested() -> None:
    tested = {(a, layout.origin) for _, a, o, _, _ in CASES for layout in LAYOUTS if layout.origin.startswith(o)}
    own = {"SR-UGAN", "ResidualSR", *(architecture for _, architecture, *_ in MODERN.values())}
    assert {(x.architecture, x.origin) for x in LAYOUTS if x.architecture not in own} <= tested


WRAPPERS: list[tuple[str, Callable[[dict[str, Tensor]], Any]]] = [
    ("params", lambda s: {"params": s}),
    ("params_ema first", lambda s: {"params": {k: v * 0 for k, v in s.items()}, "params_ema": s}),
    ("training state", lambda s: {"epoch": 3, "best_psnr": 30.5, "state_dict": s, "optimizer": {"lr": [1e-4]}}),
    ("model_state_dict", lambda s: {"model_state_dict": s}),
    ("model", lambda s: {"model": s, "iteration": 4}),
    ("generator", lambda s: {"generator": s}),
    ("nested", lambda s: {"state_dict": {"params": s}}),
    ("DataParallel", lambda s: {f"module.{k}": v for k, v in s.items()}),
    ("compiled", lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}),
    ("both", lambda s: {"net": {f"module._orig_mod.{k}": v for k, v in s.items()}}),
    (
        "mmagic",
        lambda s: {
            "state_dict": {
                "step": torch.ones(1),
                **{f"generator.{k}": v for k, v in s.items()},
                "discriminator.0.weight": torch.ones(3),
            }
        },
    ),
    ("netG", lambda s: {f"netG.{k}": v for k, v in s.items()}),
    ("Lightning", lambda s: {"state_dict": {f"net.{k}": v for k, v in s.items()}}),
]


@pytest.mark.parametrize("wrapper", [w for _, w in WRAPPERS], ids=[n for n, _ in WRAPPERS])
@pytest.mark.parametrize("network", [public.esrgan_old, srgans.lornatang_now, public.compact])
def test_wrappers_and_prefixes(tmp_path: Path, wrapper: Callable[[Any], Any], network: Network) -> None:
    state, x, expected = made(network, SMALL)
    torch.save(wrapper(state), tmp_path / "w.pth")
    agree(load_model(tmp_path / "w.pth").module(x), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_formats_and_types(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    state, x, _ = made(public.real_esrgan_x2, SMALL)
    state = {k: v.to(dtype) for k, v in state.items()}
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pt")
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    weights = Weights(torch.Generator(), {k: v.float() for k, v in state.items()})
    model = load_model(path)
    assert kind in model.file_kind
    agree(model.module(x), public.real_esrgan_x2(weights, x, SMALL))


def test_views_of_one_storage(tmp_path: Path) -> None:
    """Tensors that lie in one storage, transposed or at an offset, as some programs save them."""
    state, x, expected = made(public.compact, SMALL)
    flat = torch.cat([v.reshape(-1) for v in state.values()])
    parts = flat.split([v.numel() for v in state.values()])
    views = {k: part.view(v.shape) for (k, v), part in zip(state.items(), parts, strict=True)}
    first = next(iter(views))
    views[first] = views[first].permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    for zipped in (True, False):
        torch.save(views, tmp_path / "v.pth", _use_new_zipfile_serialization=zipped)
        agree(load_model(tmp_path / "v.pth").module(x), expected)


def test_own_networks(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    torch.manual_seed(0)
    modules = (
        SRUGAN(2, channels=4, growth=2, blocks=2),
        SRUGAN(4, channels=8, growth=3, blocks=1, channel_attention=False),
        SRResNet(4, in_channels=1, out_channels=1, channels=8, num_blocks=4),
        ResidualSR((2,), channels=4, num_blocks=1, act="silu", head="tanh"),
    )
    for module in modules:
        save_checkpoint(module.eval(), path)
        loaded = load_model(path)
        x = torch.rand(1, 1 if module is modules[2] else 3, 8, 8)
        assert torch.equal(loaded.module(x), module(x))
        assert type(loaded.module) is type(module)


def test_unknown_keys_name_the_nearest(tmp_path: Path) -> None:
    state, _, _ = made(public.esrgan_middle, SMALL)
    torch.save({k.replace("RRDB_trunk", "RRDB_stem"): v for k, v in state.items()}, tmp_path / "x.pth")
    with pytest.raises(
        CheckpointError, match=r"nearest is RRDBNet \(ESRGAN, BSRGAN.*RRDB_trunk.*srfast inspect --keys"
    ):
        load_model(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("conv_hr.bias"), "conv_hr.bias missing"),
        (lambda s: s.update({"conv_extra.weight": torch.ones(2)}), "conv_extra.weight not expected"),
        (lambda s: s.update({"conv_hr.weight": torch.ones(6, 5, 3, 3)}), r"\[6, 5, 3, 3\], expected \[6, 6, 3, 3\]"),
        (lambda s: s["conv_hr.bias"].fill_(float("nan")), "6 in conv_hr.bias"),
        (lambda s: s["conv_last.bias"].__setitem__(1, float("inf")), "1 in conv_last.bias"),
        (lambda s: s.update({"conv_hr.weight": torch.ones(6, 6, 3, 3, dtype=torch.int32)}), "int32"),
        (lambda s: s.update({"conv_hr.weight": torch.ones(6, 6, 3, 3, dtype=torch.bool)}), "bool"),
        (lambda s: s.update({"conv_first.weight": torch.ones(6)}), r"of shape \[6\]"),
        (lambda s: s.update({"conv_first.weight": torch.ones(6, 0, 3, 3)}), "of shape"),
    ],
)
def test_damaged_networks_are_named(tmp_path: Path, change: Callable[[Any], Any], says: str) -> None:
    state, _, _ = made(public.esrgan_new, SMALL)
    change(state)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=says):
        load_model(tmp_path / "x.pth")


def test_a_scale_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    state, _, _ = made(srgans.leftthomas, SMALL)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="scale 4, not 3"):
        load_model(tmp_path / "x.pth", scale=3)


PUBLISHED = [
    ("srgan_leftthomas/netG_epoch_4_100.pth", 30.65, 0.8642),
    ("srgan_leftthomas/netG_epoch_2_100.pth", 35.47, 0.9426),
    ("srvgg_compact/realesr-animevideov3.pth", 28.23, 0.8268),
]


@pytest.mark.parametrize(("file", "psnr", "ssim"), PUBLISHED)
def test_real_checkpoints(data_folder: Path, file: str, psnr: float, ssim: float) -> None:
    from srfast.training.evaluate import evaluate
    from srfast.training.measures import means

    model = load_model(data_folder / "checkpoints" / file)
    scores = evaluate(model.module, data_folder / "eval" / "Set5" / "HR", model.scale)
    assert means(scores.values())["PSNR-Y"] == pytest.approx(psnr, abs=0.01)
    assert means(scores.values())["SSIM-Y"] == pytest.approx(ssim, abs=0.0002)
