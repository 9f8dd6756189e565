"""``srfast.compile`` and the backend of ``torch.compile``."""

from __future__ import annotations

import pytest
import torch
from conftest import randomise
from torch import nn
from torch.nn import functional as F

import srfast
from srfast.compiled import CompiledModule, dynamo_backend
from srfast.errors import BackendError, InputError, UnsupportedModelError
from srfast.models import RRDBNet, digit_srgan


def test_any_module(network: nn.Module) -> None:
    compiled = srfast.compile(network, dtype=torch.float32)
    assert isinstance(compiled, CompiledModule)
    for shape in ((1, 3, 1, 1), (2, 3, 7, 5)):
        x = torch.rand(shape)
        with torch.no_grad():
            expected = network(x)
        got = compiled(x)
        torch.testing.assert_close(got, expected, rtol=0, atol=3e-5)
        assert compiled(x.double()).dtype == torch.float64
        other = got.clone()
        compiled(torch.rand(shape))
        assert torch.equal(got, other)  # results of earlier calls stay


def test_options_and_mistakes() -> None:
    compiled = srfast.compile(digit_srgan(2).eval(), backend="reference", dtype=torch.float32)
    assert "x2, reference on cpu, float32" in str(compiled)
    assert compiled(torch.rand(1, 1, 3, 4)).shape == (1, 1, 6, 8)
    for x in (
        torch.rand(1, 3, 4, 4),
        torch.rand(4, 4),
        torch.zeros(1, 1, 4, 4, dtype=torch.int32),
        torch.rand(1, 1, 0, 4),
    ):
        with pytest.raises(InputError, match=r"floating \[N, 1, H, W\]"):
            compiled(x)
    with pytest.raises(InputError, match="multiples of 2"):
        srfast.compile(RRDBNet(scale=2, num_feat=4, num_block=1, num_grow_ch=2))(torch.rand(1, 3, 3, 4))
    with pytest.raises(BackendError, match="no backend"):
        srfast.compile(digit_srgan(2), backend="tpu")


class Functional(nn.Module):
    """Layers as functions of stored weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3) * 0.2)
        self.slope = nn.Parameter(torch.rand(8))
        self.up = nn.Parameter(torch.randn(8, 3, 4, 4) * 0.2)
        self.register_buffer("mean", torch.rand(8))
        self.register_buffer("var", torch.rand(8) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.batch_norm(F.conv2d(x, self.weight, padding=1), self.mean, self.var)
        y = F.instance_norm(F.prelu(y, self.slope))
        return F.conv_transpose2d(y, self.up, stride=2, padding=1)


def test_layers_as_functions() -> None:
    torch.manual_seed(0)
    module = Functional().eval()
    x = torch.rand(2, 3, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(srfast.compile(module, dtype=torch.float32)(x), module(x), rtol=0, atol=2e-5)


class Computed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, x)


def test_a_computed_weight_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match="computed weight"):
        srfast.compile(Computed())


@pytest.mark.timeout(600)
def test_torch_compile() -> None:
    """Without inductor: only TorchDynamo's tracing and our backend."""
    torch._dynamo.reset()
    for module in (digit_srgan(2), RRDBNet(num_feat=4, num_block=1, num_grow_ch=2), Functional()):
        module = randomise(module)
        fast = torch.compile(module, backend=dynamo_backend)
        for size in ((5, 4), (6, 7)):
            x = torch.rand(
                1, 1 if module.state_dict().get("conv1.0.weight", torch.ones(1, 3)).shape[1] == 1 else 3, *size
            )
            with torch.no_grad():
                torch.testing.assert_close(fast(x), module(x), rtol=0, atol=3e-5)
        with pytest.raises(UnsupportedModelError, match="no_grad"):
            fast(x)
