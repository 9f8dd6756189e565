"""The CUDA backend on whole networks, its kernels emulated on the host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from srfast.backends import select_backend
from srfast.backends.cuda import CudaBackend
from srfast.backends.cuda.program import pack_plan
from srfast.backends.kernel_choice import choices, preferred
from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.kernels import cuda
from srfast.kernels.cuda import pair, tail
from srfast.kernels.cuda.config import (
    KERNELS,
    PAIRS,
    TAILS,
    TRUNKS,
    VARIABLE,
    CudaConfig,
    find_config,
    find_pair,
    find_trunk,
)
from srfast.kernels.planes import PlaneColour, Planes, load_planes_reference, store_planes_reference
from srfast.models import RRDBNet, SRResNet, SRVGGNetCompact
from srfast.plan import Plan
from srfast.plan.passes import in_units, optimise

CPU, HALF = torch.device("cpu"), torch.float16


pytestmark = pytest.mark.usefixtures("emulated_cuda")


def image(channels: int, height: int, width: int) -> Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))


def plan_of(network: nn.Module) -> Plan:
    torch.manual_seed(0)
    for p in network.parameters():
        nn.init.normal_(p, std=0.05)
    return optimise(capture(network.eval()))


NETWORKS = {
    "srresnet": lambda: SRResNet(4, channels=64, num_blocks=1),
    "compact": lambda: SRVGGNetCompact(num_feat=16, num_conv=1, upscale=4),
    "rrdb": lambda: RRDBNet(3, 3, scale=4, num_feat=16, num_block=1, num_grow_ch=16),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    plan = plan_of(NETWORKS[name]())
    x = image(3, 5, 7).half()
    run = CudaBackend().compile(plan, CPU, HALF)
    expected = ReferenceBackend().compile(plan, CPU, torch.float32)(x.float())
    for _ in range(2):  # the second time in the same memory
        error = float((run(x).float() - expected).abs().max())
        assert error <= 4e-3 * float(expected.abs().max())


def test_chosen_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused pairs and Hopper's kernels where a file asks for them; results stay close, pairs stay equal."""
    plan, x = plan_of(SRResNet(2, channels=64, num_blocks=1)), image(3, 4, 5).half()
    expected = CudaBackend().compile(plan, CPU, HALF)(x)
    block = {"pair 3x3 64->64, 3x3 ->64": {"speedup": 1.5}}
    hopper = {"conv 3x3 64->64": {"kernel": "wgmma_shifted"}}
    large = {"conv 3x3 64->64": {"kernel": "mma_large"}}
    end = {"pair 3x3 64->256, 5x5 ->12": {"kernel": "tail", "speedup": 1.5}}
    held = {"conv 3x3 64->64": {"kernel": "wgmma_held"}}
    rows = {"pair 3x3 64->64, 3x3 ->64": {"kernel": "pair_wgmma", "speedup": 1.5}}
    last = {"pair 3x3 64->256, 5x5 ->12": {"kernel": "tail_wgmma", "speedup": 1.5}}
    cases = ((block, True), (hopper, False), (large, True), (end, False), (held, False), (rows, False), (last, False))
    for entries, equal in cases:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        file.write_text(json.dumps({"default": entries}))
        monkeypatch.setenv(VARIABLE, str(file))
        steps = pack_plan(plan, ("default",), HALF, CPU)
        fused = [step.fused for step in steps if step.fused is not None]
        assert (entries in (end, last)) == any(one.tail is not None for one in fused)
        assert (entries in (block, rows)) == any(one.tail is None for one in fused)
        got = CudaBackend().compile(plan, CPU, HALF)(x)
        torch.testing.assert_close(got, expected, rtol=0 if equal else 1e-2, atol=0 if equal else 1e-2)


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("conv 3x3 64->64", KERNELS),
        ("pair 3x3 64->64, 3x3 ->64", PAIRS),
        ("pair 3x3 64->256, 5x5 ->12", TAILS),
        ("trunk 3x3 64", TRUNKS),
    ],
)
def test_only_kernels_of_a_shape_are_taken(
    key: str, right: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of them where an entry names none; another's is an error that names both."""
    assert (set(PAIRS), set(TAILS)) == (set(pair.FORMS), set(tail.FORMS))

    def find(entry: dict[str, object]) -> CudaConfig | None:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        file.write_text(json.dumps({"default": {key: {"speedup": 1.5, **entry}}}))
        monkeypatch.setenv(VARIABLE, str(file))
        found = {
            KERNELS: lambda: find_config(("default",), 64, 64, 3),
            PAIRS: lambda: find_pair(("default",), 64, 3, 64, 3, 64),
            TAILS: lambda: find_pair(("default",), 64, 3, 256, 5, 12),
            TRUNKS: lambda: find_trunk(("default",)),
        }
        return found[right]()

    assert find({}) == CudaConfig(right[0], speedup=1.5)
    for kernel in (*KERNELS, *PAIRS, *TAILS, *TRUNKS):
        if kernel in right:
            assert find({"kernel": kernel}) == CudaConfig(kernel, speedup=1.5)
        else:
            with pytest.raises(ValueError, match=f"'{kernel}' is no kernel of '{key}'; there are {right[0]}"):
                find({"kernel": kernel})


def test_a_fused_tail_writes_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = in_units(plan_of(SRResNet(2, channels=64, num_blocks=0)), 1.0, 255.0)
    file = tmp_path / "configs.json"
    file.write_text(json.dumps({"default": {"pair 3x3 64->256, 5x5 ->12": {"kernel": "tail_wide", "speedup": 1.1}}}))
    frames = (image(3, 6, 9).permute(0, 2, 3, 1) * 255).to(torch.uint8)
    apart, _ = CudaBackend().compile(plan, CPU, HALF).run_frames(frames, 1 / 255, 255.0)  # type: ignore[attr-defined]
    monkeypatch.setenv(VARIABLE, str(file))
    together, flag = CudaBackend().compile(plan, CPU, HALF).run_frames(frames, 1 / 255, 255.0)  # type: ignore[attr-defined]
    assert int((together.int() - apart.int()).abs().max()) <= 1
    assert int(flag) == 0


@pytest.mark.parametrize("bgr", [False, True])
def test_frames(bgr: bool) -> None:
    plan = in_units(plan_of(SRVGGNetCompact(num_feat=16, num_conv=0, upscale=2)), 1.0, 255.0)
    frames = (image(3, 6, 9).permute(0, 2, 3, 1) * 255).to(torch.uint8)
    out, flag = CudaBackend().compile(plan, CPU, HALF).run_frames(frames, 1 / 255, 255.0, bgr)  # type: ignore[attr-defined]
    given = (frames.flip(3) if bgr else frames).permute(0, 3, 1, 2).float() / 255
    expected = ReferenceBackend().compile(plan, CPU, torch.float32)(given).permute(0, 2, 3, 1)
    expected = (expected.flip(3) if bgr else expected).round().clamp(0, 255)
    assert int((out.float() - expected).abs().max()) <= 1
    assert int(flag) == 0


def test_planes() -> None:
    """Video planes through kernels of their own, against the twins around a float32 network."""
    plan = in_units(plan_of(SRVGGNetCompact(num_feat=16, num_conv=0, upscale=2)), 1.0, 255.0)
    colour = PlaneColour(1)
    codes = torch.randint(0, 256, (2, 9, 10, 1), generator=torch.Generator().manual_seed(0))
    planes = Planes.of(codes.to(torch.uint8), colour)
    out, flag = CudaBackend().compile(plan, CPU, HALF).run_planes(planes, 1.0, 255.0)  # type: ignore[attr-defined]
    rgb = load_planes_reference(planes, 1.0).float()
    expected = store_planes_reference(ReferenceBackend().compile(plan, CPU, torch.float32)(rgb), 255.0, colour)
    assert out.picture.data_ptr() == out.luma.data_ptr(), "the planes lie one behind the other"
    assert int((out.picture.int() - expected.picture.int()).abs().max()) <= 1
    assert int(flag) == 0


def test_reasons() -> None:
    plan = plan_of(NETWORKS["compact"]())
    backend = CudaBackend()
    assert backend.not_supported_reasons(plan, CPU, HALF) == []
    assert "not float32" in backend.not_supported_reasons(plan, CPU, torch.float32)[0]
    cuda.use_module(None)
    reasons = backend.not_supported_reasons(plan, CPU, HALF)
    assert "put nvcc of CUDA 12.4 or newer on PATH" in reasons[0]
    assert "it runs on GPUs, not on cpu" in reasons[1]


def test_auto_wants_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured in what ships, so Triton comes first; entries change that convolution by convolution."""
    plan = plan_of(SRVGGNetCompact(num_feat=16, num_conv=1, upscale=4))
    assert preferred(plan, ("sm90", "default")) == "triton"
    assert set(choices(plan, ("sm90", "default")).values()) == {"triton, nothing was measured"}
    file = tmp_path / "configs.json"
    monkeypatch.setenv(VARIABLE, str(file))
    file.write_text(json.dumps({"sm90": {"conv": {"speedup": 1.25}, "conv 3x3 16->16": {"speedup": 0.8}}}))
    assert preferred(plan, ("sm90", "default")) == "mixed"
    assert preferred(plan, ("sm80", "default")) == "triton"
    assert choices(plan, ("sm90", "default")) == {
        "conv 3x3 3->16": "cuda mma, measured 1.25 times as fast as triton",
        "conv 3x3 16->16": "triton, cuda was measured at 0.8 times its speed",
        "conv 3x3 16->48": "cuda mma, measured 1.25 times as fast as triton",
    }
    monkeypatch.setenv(VARIABLE, str(tmp_path / "all.json"))
    (tmp_path / "all.json").write_text(json.dumps({"sm90": {"conv": {"speedup": 1.25}}}))
    assert preferred(plan, ("sm90", "default")) == "cuda"
    pooled = plan_of(nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)))
    assert preferred(pooled, ("sm90", "default")) == "mixed", "CUDA has no kernel of its own for the rest"
    assert select_backend(plan, CPU, torch.float32).name != "cuda"
