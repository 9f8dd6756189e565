"""Convolutions in CUDA and in Triton in one plan, the ones emulated, the others interpreted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from srfast.backends.cuda.trunk import fused_trunks
from srfast.backends.kernel_choice import choices, preferred
from srfast.backends.mixed import MixedBackend, cuda_kernel, cuda_pairs
from srfast.backends.reference import ReferenceBackend
from srfast.backends.triton.program import pack_plan
from srfast.capture import capture
from srfast.kernels.cuda.config import VARIABLE
from srfast.models import RRDBNet, SRResNet, SRVGGNetCompact
from srfast.plan import Plan
from srfast.plan.passes import in_units, optimise

CPU, HALF = torch.device("cpu"), torch.float16


pytestmark = pytest.mark.usefixtures("emulated_cuda")


FUSED = {"block": "pair 3x3 64->64, 3x3 ->64", "tail": "pair 3x3 64->256, 5x5 ->12"}


def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *keys: str, **more: dict[str, Any]) -> None:
    """A file of speeds, made up."""
    entries = {key: {"speedup": 1.5} for key in keys} | {FUSED[key]: entry for key, entry in more.items()}
    (tmp_path / "configs.json").write_text(json.dumps({"default": entries}))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "configs.json"))


def fused_by_triton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make a file of Triton's configurations in which it fuses these."""
    triton = tmp_path / "triton.json"
    triton.write_text(json.dumps({"default": {FUSED[name]: {"region_h": 16} for name in names}}))
    monkeypatch.setenv("SRFAST_TRITON_CONFIGS", str(triton))


def check_images(plan: Plan, count: int) -> None:
    """Compare ``count`` images of odd sizes in half precision with the reference in float32."""
    x = torch.rand(count, 3, 5, 7, generator=torch.Generator().manual_seed(0)).half()
    run = MixedBackend(interpret=True).compile(plan, CPU, HALF)
    expected = ReferenceBackend().compile(plan, CPU, torch.float32)(x.float())
    for _ in range(2):  # the second time in the same memory
        assert float((run(x).float() - expected).abs().max()) <= 4e-3 * float(expected.abs().max())


def check_frames(plan: Plan, bgr: bool, white: float = 255.0) -> None:
    """Compare frames of uint8 with the reference, to one level; nothing in them may have been infinite."""
    frames = torch.randint(0, 256, (1, 5, 6, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    out, flag = MixedBackend(interpret=True).compile(plan, CPU, HALF).run_frames(frames, 1 / 255, white, bgr)  # type: ignore[attr-defined]
    x = (frames.flip(3) if bgr else frames).permute(0, 3, 1, 2).float() / 255
    expected = ReferenceBackend().compile(plan, CPU, torch.float32)(x).permute(0, 2, 3, 1) * (255 / white)
    expected = expected.round().clamp(0, 255)
    assert int((out.float() - (expected.flip(3) if bgr else expected)).abs().max()) <= 1
    assert int(flag) == 0


NETWORKS = {
    "compact": (lambda: SRVGGNetCompact(num_feat=16, num_conv=2, upscale=2), "conv 3x3 16->16", 2),
    # Slices of a wider canvas, which CUDA reads as Triton does.
    "rrdb": (lambda: RRDBNet(3, 3, scale=4, num_feat=16, num_block=1, num_grow_ch=16), "conv 3x3 32->16", 3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, key, count = NETWORKS[name]
    torch.manual_seed(0)
    network = make().eval()
    for p in network.parameters():
        nn.init.normal_(p, std=0.05)
    plan = optimise(capture(network))
    backend = MixedBackend(interpret=True)
    assert "measured to be faster" in backend.not_supported_reasons(plan, CPU, HALF)[0]
    measured(tmp_path, monkeypatch, key)
    assert backend.not_supported_reasons(plan, CPU, HALF) == []
    steps = pack_plan(plan, ("default",), HALF, CPU, cuda_kernel)
    assert sum(step.other is not None for step in steps) == count
    check_images(plan, count=1)


@pytest.mark.parametrize("bgr", [False, True])
def test_a_last_convolution_in_cuda_writes_frames(bgr: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels turned round are Triton's to write."""
    torch.manual_seed(0)
    plan = in_units(optimise(capture(SRVGGNetCompact(num_feat=16, num_conv=0, upscale=2).eval())), 1.0, 255.0)
    measured(tmp_path, monkeypatch, "conv 3x3 16->12")
    check_frames(plan, bgr)


def residual_plan(blocks: int = 1) -> Plan:
    torch.manual_seed(0)
    network = SRResNet(2, channels=64, num_blocks=blocks).eval()
    for p in network.parameters():
        nn.init.normal_(p, std=0.03)
    return optimise(capture(network))


@pytest.mark.parametrize(
    ("kernels", "names"),
    [
        ({"tail": "tail"}, ["tail"]),
        ({"block": "pair"}, ["pair"]),
        ({"block": "pair_wgmma", "tail": "tail_wgmma"}, ["pair_wgmma", "tail_wgmma"]),
    ],
    ids=["tail", "block", "both on Hopper"],
)
def test_fused_kernels(
    kernels: dict[str, str], names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Residual blocks and tails in one CUDA launch, without a single convolution there; odd sizes, two images, in half."""
    plan, backend = residual_plan(), MixedBackend(interpret=True)
    before = len(pack_plan(plan, ("default",), HALF, CPU))
    for folder, speedup in ((tmp_path / "as fast", 1.0), (tmp_path / "faster", 1.5)):
        folder.mkdir()
        entries = {key: {"kernel": name, "speedup": speedup} for key, name in kernels.items()}
        measured(folder, monkeypatch, **entries)
        assert bool(backend.not_supported_reasons(plan, CPU, HALF)) == (speedup == 1.0)
    assert preferred(plan, ("default",)) == "mixed"
    assert [choices(plan, ("default",))[FUSED[key]].split()[1] for key in kernels] == [f"{name}," for name in names]
    steps = pack_plan(plan, ("default",), HALF, CPU, cuda_kernel, fused=cuda_pairs(plan, HALF, CPU))
    assert sum(step.fused is not None for step in steps) == len(names)
    assert len(steps) == before - len(names)
    assert not any(step.other is not None for step in steps)
    check_images(plan, count=2)


@pytest.mark.parametrize("bgr", [False, True])
def test_a_fused_tail_writes_frames(bgr: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the network's order by itself; turned round by a launch of Triton's behind it. uint8, half precision."""
    plan = in_units(residual_plan(0), 1.0, 255.0)
    measured(tmp_path, monkeypatch, tail={"kernel": "tail_wide", "speedup": 1.5})
    check_frames(plan, bgr)


def test_a_pair_of_triton_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution is in one launch only, though both files want it; what CUDA does not fuse Triton still does."""
    plan = residual_plan(2)
    fused_by_triton(tmp_path, monkeypatch, "block", "tail")
    alone = pack_plan(plan, ("default",), HALF, CPU)
    assert sum(step.first is not None for step in alone) >= 3
    measured(tmp_path, monkeypatch, tail={"kernel": "tail", "speedup": 1.5})
    steps = pack_plan(plan, ("default",), HALF, CPU, cuda_kernel, fused=cuda_pairs(plan, HALF, CPU))
    assert [step.node.output for step in steps] == [step.node.output for step in alone]
    assert steps[-1].fused is not None and steps[-1].first is None
    assert sum(step.first is not None for step in steps) == sum(step.first is not None for step in alone) - 1


def test_chains_of_pairs_do_not_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three convolutions in a row Triton fuses the last two, CUDA the first two: each is computed exactly once."""
    torch.manual_seed(0)
    network = SRVGGNetCompact(num_feat=64, num_conv=3, upscale=2).eval()
    plan = optimise(capture(network))
    fused_by_triton(tmp_path, monkeypatch, "block")
    measured(tmp_path, monkeypatch, block={"kernel": "pair", "speedup": 1.5})
    of_both = pack_plan(plan, ("default",), HALF, CPU, cuda_kernel, fused=cuda_pairs(plan, HALF, CPU))
    for steps in (pack_plan(plan, ("default",), HALF, CPU), of_both):
        made = {plan.input}
        for step in steps:
            assert set(step.reads) <= made, f"{step.node.output} reads what nobody computes"
            made.add(step.node.output)
        assert sum(step.first is not None or step.fused is not None for step in steps) == 1
    assert any(step.fused is not None for step in of_both)


TRUNK = "trunk 3x3 64"


def chain() -> nn.Module:
    """A trunk whose last convolution gives the result."""
    convs = [layer for _ in range(3) for layer in (nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1))]
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), *convs)


@pytest.mark.parametrize("network", [lambda: SRResNet(2, channels=64, num_blocks=2), chain], ids=["SRResNet", "chain"])
def test_trunks(network: Callable[[], nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One CUDA launch with Triton around it, where that was measured to be faster, and no pair in it; tensors and frames."""
    torch.manual_seed(0)
    module = network().eval()
    for p in module.parameters():
        nn.init.normal_(p, std=0.03)
    plan, names = optimise(capture(module)), ("default",)
    fused_by_triton(tmp_path, monkeypatch, "block")
    for folder, speedup in ((tmp_path / "as fast", 1.0), (tmp_path / "faster", 1.5)):
        folder.mkdir()
        entries = {FUSED["block"]: {"kernel": "pair_wgmma", "speedup": 1.5}, TRUNK: {"speedup": speedup}}
        (folder / "configs.json").write_text(json.dumps({"default": entries}))
        monkeypatch.setenv(VARIABLE, str(folder / "configs.json"))
        assert len(fused_trunks(plan, names, HALF, CPU)) == (TRUNK in choices(plan, names)) == (speedup > 1)
    assert choices(plan, names)[TRUNK] == "cuda trunk_wgmma, measured 1.5 times as fast as single launches"
    assert preferred(plan, names) == "mixed"
    assert MixedBackend(interpret=True).not_supported_reasons(plan, CPU, HALF) == []
    runs = fused_trunks(plan, names, HALF, CPU)
    steps = pack_plan(plan, names, HALF, CPU, cuda_kernel, fused=cuda_pairs(plan, HALF, CPU, runs), runs=runs)
    inside = {node.output for node in runs[0].nodes}
    assert [step.node.output for step in steps if step.node.output in inside] == [runs[0].nodes[-1].output]
    assert not any(step.fused is not None or step.first is not None for step in steps)
    check_images(plan, count=2)
    check_frames(plan, bgr=False, white=1.0)
