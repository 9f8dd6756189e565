"""``srfast.compile`` and the backend of ``torch.compile``."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import srfast
from srfast.backends import CpuBackend
from srfast.capture import capture
from srfast.compiler import CompiledModule, dynamo_backend
from srfast.errors import BackendError, InputError, SrfastError, UnsupportedModelError
from srfast.models import RRDBNet, SRVGGNetCompact, digit_srgan
from tests.helpers.networks.small import randomise


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(network: nn.Module) -> None:
    with pytest.raises(BackendError, match="cannot run on the device cuda"):
        srfast.compile(network, device="cuda")


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_copies(network: nn.Module, backend: str) -> None:
    compiled, x = srfast.compile(network, dtype=torch.float32, backend=backend), torch.rand(1, 3, 6, 5)
    for again in (copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        assert torch.equal(again(x), compiled(x))


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
        srfast.compile(Computed(), strict=True)


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


def follows_eager(fast: Any, module: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(fast(x), module(x), rtol=1e-6, atol=3e-5)


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))


@pytest.mark.timeout(600)
def test_torch_compile_follows_its_weights() -> None:
    torch._dynamo.reset()
    module, other = randomise(small()), randomise(small(), seed=1)
    x = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    fast = torch.compile(module, backend=dynamo_backend)
    follows_eager(fast, module, x)
    with torch.no_grad():
        module[0].weight.mul_(2)
    follows_eager(fast, module, x)
    module.load_state_dict(other.state_dict())
    follows_eager(fast, module, x)
    module[1].running_mean.add_(1)
    follows_eager(fast, module, x)
    with torch.inference_mode():
        module[3].bias.add_(1)
    follows_eager(fast, module, x)
    for seed in range(3):  # freed memory comes back at the same address, with the same version
        module[3].weight = None
        module[3].weight = nn.Parameter(torch.randn(3, 8, 3, 3, generator=torch.Generator().manual_seed(seed)))
        follows_eager(fast, module, x)
        module[0].weight.data = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
        follows_eager(fast, module, x)


def test_torch_compile_follows_weights_of_inference_mode() -> None:
    torch._dynamo.reset()
    with torch.inference_mode():
        module = randomise(small())
        x = torch.rand(1, 3, 4, 3, generator=torch.Generator().manual_seed(0))
        fast = torch.compile(module, backend=dynamo_backend)
        follows_eager(fast, module, x)
        module[0].weight.mul_(2)
        torch.testing.assert_close(fast(x), module(x), rtol=1e-6, atol=3e-5)


def test_torch_compile_builds_once_while_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    built = []
    monkeypatch.setattr(
        "srfast.compiler.capture", lambda *given, **options: built.append(1) or capture(*given, **options)
    )
    module = randomise(small())
    fast = torch.compile(module, backend=dynamo_backend)
    x = torch.rand(1, 3, 4, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        follows_eager(fast, module, x)
    assert len(built) == 1


def test_torch_compile_takes_any_channels_where_the_layers_do() -> None:
    torch._dynamo.reset()
    module = nn.Sequential(nn.Upsample(scale_factor=2), nn.LeakyReLU(0.2, inplace=True)).eval()
    fast = torch.compile(module, backend=dynamo_backend)
    for channels in (1, 3, 5, 3):
        follows_eager(fast, module, torch.randn(1, channels, 3, 2, generator=torch.Generator().manual_seed(channels)))


def test_channels_can_be_given() -> None:
    module = nn.Upsample(scale_factor=2, mode="bilinear")
    x = torch.rand(1, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    compiled = srfast.compile(module, in_channels=5, dtype=torch.float32)
    torch.testing.assert_close(compiled(x), module(x), rtol=0, atol=1e-6)
    with pytest.raises(UnsupportedModelError, match="on 4 channels"):
        srfast.compile(small(), in_channels=4)


class Moved(nn.Module):
    """In place on a convolution's result, by operators and by positional arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.leaky = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        z = y.clone()
        self.leaky(y)
        y += x
        return y - z * 0.5


def test_torch_compile_of_operations_in_place() -> None:
    torch._dynamo.reset()
    module = randomise(Moved())
    x = torch.randn(1, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    follows_eager(torch.compile(module, backend=dynamo_backend), module, x)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5)).train(), "dropout in training"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train(), r"call eval\(\)"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, momentum=None, track_running_stats=False)), "training"),
        (nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1)).eval(), "changes its input in place"),
    ],
)
def test_torch_compile_names_what_is_no_function_of_the_image(module: nn.Module, says: str) -> None:
    torch._dynamo.reset()
    fast = torch.compile(module, backend=dynamo_backend)
    with torch.no_grad(), pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=says):
        fast(torch.rand(1, 3, 4, 4))


class Keeps(nn.Module):
    """A tensor that is neither a parameter nor a buffer."""

    def __init__(self, shape: tuple[int, ...] = (1, 3, 1, 1), writes: Any = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.mean = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        self.register_buffer("calls", torch.zeros(3))
        self.writes = writes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.writes is not None:
            self.writes(self, x)
        return nn.functional.pixel_shuffle(self.conv(x - self.mean) + self.calls[0], 2)


OF_ALL = torch.full((1, 3, 1, 1), 0.25)


class Lists(Keeps):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x + [self.mean][0] * OF_ALL)


@pytest.mark.parametrize("module", [Keeps(), Keeps(()), Lists()])
def test_torch_compile_of_a_tensor_that_the_module_keeps(module: Keeps) -> None:
    torch._dynamo.reset()
    module, x = randomise(module), torch.rand(1, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    fast = torch.compile(module, backend=dynamo_backend)
    follows_eager(fast, module, x)
    module.mean.add_(1)
    follows_eager(fast, module, x)
    module.mean = torch.rand_like(module.mean)
    follows_eager(fast, module, x)


def add_one(module: Keeps, x: torch.Tensor) -> None:
    module.mean.add_(1)


def add_part(module: Keeps, x: torch.Tensor) -> None:
    module.calls[0] += 1


def write_out(module: Keeps, x: torch.Tensor) -> None:
    torch.add(module.calls, 1, out=module.calls)


@pytest.mark.parametrize("writes", [add_one, add_part, write_out])
def test_torch_compile_of_what_changes_a_kept_tensor(writes: Any) -> None:
    torch._dynamo.reset()
    fast = torch.compile(randomise(Keeps(writes=writes)), backend=dynamo_backend)
    with torch.no_grad(), pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="changes a stored tensor"):
        fast(torch.rand(1, 3, 4, 4))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_torch_compile_of_normalised_weights(norm: Any) -> None:
    """Their hooks keep the weight in the module, which is a second result of the graph."""
    torch._dynamo.reset()
    module = nn.Sequential(
        norm(nn.Conv2d(3, 4, 3, padding=1)), nn.ReLU(), norm(nn.Conv2d(4, 12, 3, padding=1)), nn.PixelShuffle(2)
    )
    module = randomise(module).eval()
    fast = torch.compile(module, backend=dynamo_backend)
    x = torch.rand(1, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for _ in range(2):
            y = fast(x)
            kept = module[2].weight
            torch.testing.assert_close(y, module(x), rtol=1e-6, atol=3e-5)
            torch.testing.assert_close(kept, module[2].weight)
            next(module[2].parameters()).mul_(2)
            dict(module[2].named_parameters())["weight_v" if norm is nn.utils.weight_norm else "weight_orig"].add_(0.1)


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return nn.functional.relu(x), x * 2


def test_torch_compile_of_two_results() -> None:
    torch._dynamo.reset()
    with torch.no_grad(), pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="returns 2 images"):
        torch.compile(Pair(), backend=dynamo_backend)(torch.rand(1, 3, 4, 4))


def test_compile_keeps_its_weights_and_the_input() -> None:
    module = randomise(nn.Sequential(nn.ReLU(inplace=True), small()))
    x = torch.randn(1, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    compiled = srfast.compile(module, dtype=torch.float32)
    with torch.no_grad():
        expected = module(x.clone())
        module[1][0].weight.mul_(2)
    kept = x.clone()
    torch.testing.assert_close(compiled(x), expected, rtol=1e-6, atol=3e-5)
    assert torch.equal(x, kept)


def test_a_closed_module_says_so() -> None:
    with srfast.compile(
        randomise(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2)), device="cpu", dtype=torch.float32
    ) as fast:
        assert fast(torch.rand(1, 3, 8, 9)).shape == (1, 3, 16, 18)
    with pytest.raises(SrfastError, match="closed"):
        fast(torch.rand(1, 3, 8, 9))


def test_a_backend_with_options_is_kept() -> None:
    """A backend may be given as such; copies of the module have the same."""
    backend = CpuBackend(winograd=False)
    fast = srfast.compile(
        randomise(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2)),
        device="cpu",
        dtype=torch.float32,
        backend=backend,
    )
    again = pickle.loads(pickle.dumps(fast))
    assert fast.backend is backend and again.backend == backend != CpuBackend()
    x = torch.rand(1, 3, 9, 11)
    assert torch.equal(again(x), fast(x))
