"""Plans of small networks, and the Triton backend on them: in the interpreter or on a GPU."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from srfast.backends.reference import ReferenceBackend
from srfast.backends.triton import TritonBackend
from srfast.capture import capture
from srfast.models import SRUGAN, ResidualSR, RRDBNet, SRResNet, SRVGGNetCompact, edsr, msrresnet
from srfast.plan import Plan
from srfast.plan.passes import optimise

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HALF = torch.float16


def network(build: Callable[[], nn.Module]) -> Plan:
    torch.manual_seed(0)
    module = build().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_((parameter * 1.5).half().float())
    return optimise(capture(module))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "srresnet": lambda: SRResNet(scale=4, channels=16, num_blocks=2),
    "compact": lambda: SRVGGNetCompact(num_feat=16, num_conv=2, upscale=4),
    "rrdb": lambda: RRDBNet(scale=4, num_feat=16, num_block=1, num_grow_ch=16),
    "rrdb_unshuffled": lambda: RRDBNet(scale=2, num_feat=24, num_block=1, num_grow_ch=8),
    "rrdb_plus": lambda: RRDBNet(scale=4, num_feat=32, num_block=1, num_grow_ch=16, plus=True),
    "msrresnet": lambda: msrresnet(channels=16, num_blocks=2),
    "edsr": lambda: edsr(2, channels=16, num_blocks=2),
    "instance": lambda: ResidualSR((2,), channels=16, num_blocks=1, norm="instance", act="silu", head="tanh"),
    "ugan": lambda: SRUGAN(2, channels=8, growth=8, blocks=1),
}


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).half()


def compile_triton(plan: Plan, dtype: torch.dtype = HALF):  # type: ignore[no-untyped-def]
    backend = TritonBackend(interpret=True)
    assert backend.not_supported_reasons(plan, DEVICE, dtype) == []
    return backend.compile(plan, DEVICE, dtype)


def reference(plan: Plan, x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    return ReferenceBackend().compile(plan, torch.device("cpu"), dtype)(x.to(dtype)).double()
