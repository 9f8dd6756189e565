"""8-bit convolutions in the CUDA backend, emulated: what runs in bytes, what stays in 16 bits, and what calibration says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from benchmarks.int8_loss import run_rounded
from srfast.backends.cuda import CudaBackend
from srfast.backends.cuda.calibrate import calibrate
from srfast.backends.cuda.convs import kernel_plan
from srfast.backends.cuda.int8 import in_bytes, int8_convs
from srfast.backends.cuda.program import pack_plan
from srfast.backends.int8 import find_roundings
from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.kernels import cuda
from srfast.models import RRDBNet, SRResNet, SRVGGNetCompact
from srfast.plan import Conv, Plan
from srfast.plan.passes import in_units, optimise
from tests.helpers.cuda import emulation as cuda_emulation

CPU, HALF = torch.device("cpu"), torch.float16


@pytest.fixture(autouse=True)
def emulated() -> Iterator[None]:
    module = cuda_emulation.load(cuda_emulation.build(cuda_emulation.REPOSITORY / "build" / "emulated"))
    before = cuda.use_module(module)
    yield
    cuda.use_module(before)


def plan_of(network: nn.Module) -> Plan:
    torch.manual_seed(0)
    for p in network.parameters():
        nn.init.normal_(p, std=0.05)
    # Exact in the kernels' type: a rounded weight alone would change one byte in sixteen.
    return optimise(capture(network.eval())).map_tensors(lambda t: t.half().float())


def image(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


class Shared(nn.Module):
    """Activations that are read in bytes and in 16 bits: by an addition, and by a convolution of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv2d(3, 64, 3, padding=1), *(nn.Conv2d(64, 64, 3, padding=1) for _ in range(3))]
        )
        self.one = nn.Conv2d(64, 64, 1)
        self.last = nn.Conv2d(64, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.convs[0](x)
        b = torch.relu(self.convs[1](a))
        c = self.convs[2](b) + a
        d = self.convs[3](c) + self.one(b)
        return self.last(d)


NETWORKS = {
    "srresnet": lambda: SRResNet(4, channels=64, num_blocks=1),
    "compact": lambda: SRVGGNetCompact(num_feat=64, num_conv=2, upscale=2),
    "shared": Shared,
    "rrdb": lambda: RRDBNet(3, 3, scale=2, num_feat=64, num_block=1, num_grow_ch=32),
}


def rms(x: Tensor) -> float:
    return float(x.float().square().mean().sqrt())


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    """As the references of its kernels say, to the rounding of the other layers; and calibration tells its loss."""
    plan, x = plan_of(NETWORKS[name]()), image(6, 10) if name == "rrdb" else image(5, 67)
    exact = ReferenceBackend().compile(plan, CPU, torch.float32)(x)
    peak = float(exact.abs().max())
    int8 = calibrate(plan, x, peak)
    assert set(int8.convs) == {node.output for node in int8_convs(kernel_plan(plan))} and int8.convs
    run = CudaBackend(int8=int8).compile(plan, CPU, HALF)
    expected = run_rounded(kernel_plan(plan), int8.convs, x.half().float(), HALF)
    noise = rms(expected - exact)
    assert noise > 1e-3 * rms(exact)  # it is not the float32 network
    for _ in range(2):  # the second time in the same memory
        y = run(x.half())
        assert rms(y - expected) < noise / 5
        assert abs(20 * torch.tensor(peak / rms(y - exact)).log10() - int8.psnr) < 0.1
    assert int8.psnr > 30


def test_who_writes_bytes() -> None:
    """Each activation once, in the types in which it is read."""
    plan = kernel_plan(plan_of(Shared()))
    int8 = {node.output for node in int8_convs(plan)}
    roundings, _ = find_roundings(plan, image(4, 4), int8_convs(plan))
    written = Counter(
        name for step in pack_plan(plan, ("default",), HALF, CPU, roundings=roundings) for name in step.writes
    )
    expected, both = list[str](), 0
    for node in plan.nodes:
        name = node.output
        readers = [reader for reader in plan.users(name) if isinstance(reader, Conv)]
        in_8 = any(reader.output in int8 and reader.input == name for reader in readers)
        # What a kernel of 16-bit values makes is there in 16 bits, whoever reads it.
        in_16 = name not in int8 or any(reader.output not in int8 or reader.residual == name for reader in readers)
        expected += [name] * in_16 + [in_bytes(name)] * in_8
        both += name in int8 and in_8 and in_16
    assert len(int8) == 3 and both >= 1
    assert written == Counter(expected)


def test_a_chain_stays_in_bytes() -> None:
    """Between the 8-bit convolutions of Compact nothing is written in 16 bits."""
    plan = kernel_plan(plan_of(SRVGGNetCompact(num_feat=64, num_conv=4, upscale=2)))
    wanted = int8_convs(plan)
    roundings, _ = find_roundings(plan, image(4, 4), wanted)
    steps = pack_plan(plan, ("default",), HALF, CPU, roundings=roundings)
    made = [step.writes for step in steps if step.int8 is not None and step.int8.conv is not None]
    assert len(made) == 4
    assert made == [(in_bytes(node.output),) for node in wanted[:-1]] + [(wanted[-1].output,)]


def test_frames() -> None:
    plan = in_units(plan_of(SRResNet(2, channels=64, num_blocks=1)), 1.0, 255.0)
    frames = (image(6, 9).permute(0, 2, 3, 1) * 255).to(torch.uint8)
    x = frames.permute(0, 3, 1, 2).float() / 255
    int8 = calibrate(plan, x, 255.0)
    out, flag = CudaBackend(int8=int8).compile(plan, CPU, HALF).run_frames(frames, 1 / 255, 255.0)  # type: ignore[attr-defined]
    expected = CudaBackend(int8=int8).compile(plan, CPU, HALF)(x.half()).permute(0, 2, 3, 1).round().clamp(0, 255)
    assert int((out.float() - expected.float()).abs().max()) <= 1 and int(flag) == 0


def test_never_by_itself() -> None:
    """Nothing is in 8 bits unless it is asked for."""
    steps = pack_plan(kernel_plan(plan_of(SRResNet(2, channels=64, num_blocks=1))), ("default",), HALF, CPU)
    assert CudaBackend().int8 is None and all(step.int8 is None for step in steps)


def test_refusals() -> None:
    plan, other = plan_of(SRResNet(2, channels=64, num_blocks=2)), plan_of(Shared())
    int8 = calibrate(plan, image(4, 4), 1.0)
    reasons = CudaBackend(int8=int8).not_supported_reasons(other, CPU, HALF)
    assert any("calibrated for another network" in reason for reason in reasons)
    with pytest.raises(ValueError, match="calibrated for another network"):
        CudaBackend(int8=int8).compile(other, CPU, HALF)
    with pytest.raises(ValueError, match="images"):
        calibrate(plan, torch.empty(0, 3, 8, 8), 1.0)
    with pytest.raises(ValueError, match="cannot be calibrated here: it computes in float16 or bfloat16"):
        calibrate(plan, image(4, 4), 1.0, torch.float32)
