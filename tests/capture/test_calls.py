"""What a call of a module does beyond its layers: operations in place, weights computed before it, hooks, arguments."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from srfast.capture import capture
from srfast.errors import UnsupportedModelError
from tests.helpers.eager import Forward, assert_matches_eager, conv


def twice(change: Callable[[Tensor, Tensor], Any], keep: Callable[[Tensor], Tensor] = lambda y: y) -> nn.Module:
    """The sum of two names of one activation, after a change of one of them, which may be given another value on the way."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.a(x)
        z = m.keep(y)
        change(z, x)
        return y * 0.5 + z

    return Forward(forward, a=conv(3, 3), keep=keep)


def changed(z: Tensor, x: Tensor) -> None:
    z += x
    z *= 2
    z -= 0.3
    z /= 3


def rebound(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    z = y
    y = y + x
    y += 1
    return y * z


def activated(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    z = m.b(input=m.c(y))
    return torch.cat([y, z, x.mul_(2), x], 1)


def gated(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    squeezed = m.b(y.mean((2, 3), keepdim=True))
    F.relu(squeezed, inplace=True)
    gain = m.c(squeezed)
    gain.sigmoid_()
    return y.mul_(gain) + y


IN_PLACE: dict[str, Callable[[], nn.Module]] = {
    "clone": lambda: twice(lambda z, x: z.relu_(), lambda y: y.clone()),
    "clone_function": lambda: twice(lambda z, x: z.add_(x), torch.clone),
    "source_of_clone": lambda: Forward(lambda m, x: (y := m.a(x), z := y.clone(), y.tanh_(), y + z)[-1], a=conv()),
    "same": lambda: twice(lambda z, x: z.add_(x, alpha=2)),
    "detach": lambda: twice(lambda z, x: z.sigmoid_(), lambda y: y.detach()),
    "identity": lambda: twice(lambda z, x: z.clamp_(-0.2, 0.3), nn.Identity()),
    "dropout": lambda: twice(lambda z, x: z.mul_(2), nn.Dropout(0.5).eval()),
    "dropout_function": lambda: twice(lambda z, x: z.mul_(2), lambda y: F.dropout(y, 0.5, False, True)),
    "operators": lambda: twice(changed),
    "operators_after_clone": lambda: twice(changed, lambda y: y.clone()),
    "other_name": lambda: Forward(rebound, a=conv(3, 3)),
    "function": lambda: twice(lambda z, x: F.leaky_relu(z, 0.2, True)),
    "module": lambda: Forward(activated, a=conv(), b=nn.ReLU(inplace=True), c=nn.Identity()),
    "gate": lambda: Forward(gated, a=conv(), b=nn.Conv2d(8, 2, 1), c=nn.Conv2d(2, 8, 1)),
    "contiguous_and_let_go": lambda: Forward(lambda m, x: m.a(x).contiguous().relu_(), a=conv()),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_operations_in_place_change_what_shares_the_memory(name: str) -> None:
    torch.manual_seed(len(name))
    assert_matches_eager(IN_PLACE[name]())


def assigned(z: Tensor, x: Tensor) -> None:
    z[:, :1] = x


REFUSED_IN_PLACE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "contiguous": (lambda: twice(lambda z, x: z.relu_(), lambda y: y.contiguous()), "clone()"),
    "float": (lambda: twice(lambda z, x: z.relu_(), lambda y: y.float()), "clone()"),
    "chunk": (lambda: twice(lambda z, x: z.chunk(2, 1)[0].relu_()), "'chunk'"),
    "split": (lambda: twice(lambda z, x: torch.split(z, 1, 1)[0].relu_()), "'split'"),
    "slice": (lambda: twice(lambda z, x: z[:, :1].relu_()), "share memory with"),
    "changed_under_a_slice": (lambda: twice(lambda z, x: z[:, :1] + z.relu_()[:, :1]), "share memory with"),
    "slice_assigned": (lambda: twice(assigned), "cannot be traced"),
    "power": (lambda: twice(lambda z, x: z.__ipow__(2)), "'ipow'"),
    "stored": (
        lambda: Forward(lambda m, x: m.a(x) + m.w.add_(1), a=conv(), w=nn.Parameter(torch.rand(1), False)),
        "stored tensor",
    ),
    "stored_alone": (
        lambda: Forward(lambda m, x: m.a(x) * (m.w + 1), a=conv(), w=nn.Parameter(torch.rand(8, 1, 1))),
        "stored",
    ),
}


@pytest.mark.parametrize("name", REFUSED_IN_PLACE)
def test_what_may_or_may_not_share_memory_is_named(name: str) -> None:
    make, says = REFUSED_IN_PLACE[name]
    with pytest.raises(UnsupportedModelError) as caught:
        capture(make())
    assert says in str(caught.value)


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


NORMALISED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "spectral": spectral_norm,
    "weight": weight_norm,
    "weight_of_all": lambda m: weight_norm(m, dim=None),
    "pruned": lambda m: prune.random_unstructured(m, "weight", 0.3),
    "new_spectral": parametrizations.spectral_norm,
    "new_weight": parametrizations.weight_norm,
    "own": lambda m: parametrize.register_parametrization(m, "bias", Doubled()) or m,
    "two": lambda m: parametrize.register_parametrization(parametrizations.spectral_norm(m), "weight", Doubled()) or m,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("name", NORMALISED)
def test_weights_are_those_that_a_call_computes(name: str) -> None:
    torch.manual_seed(3)

    def make() -> nn.Module:
        parts = [conv(), nn.ReLU(), nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.PixelShuffle(1), conv(6, 3)]
        return nn.Sequential(*(NORMALISED[name](p) if hasattr(p, "weight") else p for p in parts)).double()

    module = make()
    x = torch.rand(1, 3, 5, 4, dtype=torch.float64)
    capture(module)  # before any call
    with torch.no_grad():
        module(x)  # trains the spectral vectors
    assert_matches_eager(module)
    other = make()
    for parameter in other.parameters():
        parameter.data.mul_(1.5)
    module.load_state_dict(other.state_dict())  # what the last call left beside the parameters is stale
    before = copy.deepcopy(module.state_dict())
    assert_matches_eager(module)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())  # left as it was
    with torch.no_grad():
        module.train()(x)


def hooked(add: Callable[[nn.Module], Any], place: Callable[[nn.Module], nn.Module]) -> nn.Module:
    module = nn.Sequential(conv(), nn.Sequential(conv(8, 8), nn.ReLU()), conv(8, 3))
    add(place(module))
    return module


CHANGES: dict[str, Callable[[nn.Module], Any]] = {
    "after": lambda m: m.register_forward_hook(lambda module, inputs, output: output * 2),
    "before": lambda m: m.register_forward_pre_hook(lambda module, inputs: (inputs[0] - 1,)),
    "replaced": lambda m: setattr(m, "forward", lambda x: x + 1),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("place", ["leaf", "root"])
def test_what_tracing_does_not_see_is_named(place: str, change: str) -> None:
    module = hooked(CHANGES[change], lambda m: m[0] if place == "leaf" else m)
    says = "module 0" if place == "leaf" else "the network"
    with pytest.raises(UnsupportedModelError, match=f"{says}.*{'forward()' if change == 'replaced' else 'hook'}"):
        capture(module)


@pytest.mark.parametrize("change", CHANGES)
def test_hooks_of_inner_modules_are_part_of_the_plan(change: str) -> None:
    torch.manual_seed(1)
    assert_matches_eager(hooked(CHANGES[change], lambda m: m[1]))


def test_hooks_of_all_modules_are_named() -> None:
    for register in (register_module_forward_hook, register_module_forward_pre_hook):
        handle = register(lambda *given: None)
        try:
            with pytest.raises(UnsupportedModelError, match="on all modules"):
                capture(conv())
        finally:
            handle.remove()


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(1)


class AlwaysTraining(nn.Sequential):
    def train(self, mode: bool = True) -> AlwaysTraining:
        return super().train(True)


def test_what_is_no_fixed_function_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match="random"):
        capture(nn.Sequential(conv(), Noisy()))
    with pytest.raises(UnsupportedModelError, match=r"module 1\.0 \(Dropout\) stays in training mode"):
        capture(nn.Sequential(conv(), AlwaysTraining(nn.Dropout())))


def test_arguments_by_name() -> None:
    torch.manual_seed(2)
    assert_matches_eager(
        Forward(
            lambda m, x: torch.cat(tensors=[F.relu(input=m.a(input=x)), torch.add(input=x, other=m.b(x))], dim=1),
            a=conv(),
            b=conv(3, 3),
        )
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, x: m(x, [8, 8]), "more than an image"),
        (lambda m, x: m(x, output_size=[8, 8]), "more than an image"),
        (lambda m, x: m(), "missing a required argument"),
        (lambda m, x: m(x, x, x), "too many positional arguments"),
    ],
)
def test_arguments_beside_the_image_are_named(call: Any, says: str) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        capture(Forward(lambda m, x: call(m.a, x), a=nn.ConvTranspose2d(3, 3, 2, 2)))


class Uncopied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = [nn.Parameter(torch.rand(2)) * 2]  # deepcopy takes none with a history


def test_what_cannot_be_copied_or_traced_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match="Uncopied cannot be copied: Only Tensors created explicitly"):
        capture(Uncopied())
    with pytest.raises(UnsupportedModelError, match="cannot be traced"):
        capture(Forward(lambda m, x: {}[x]))


def double(x: Tensor) -> Tensor:
    return torch.cat([x, x], 1)


@pytest.mark.parametrize(
    ("make", "channels"),
    [
        (lambda: Forward(lambda m, x: m.a(double(x)), a=conv(6, 3)), 3),
        (lambda: Forward(lambda m, x: m.a(torch.cat([m.b(double(x)), x], 1)), a=conv(9, 3), b=conv(8, 5)), 4),
        (lambda: nn.Sequential(nn.PixelUnshuffle(2), conv(8, 8), nn.PixelShuffle(2)), 2),
        (lambda: nn.Sequential(nn.Tanh(), nn.PReLU(5)), 5),
        (lambda: nn.Sequential(nn.BatchNorm2d(7), nn.PixelShuffle(1)), 7),
        (lambda: nn.Sequential(nn.InstanceNorm2d(2, affine=True)), 2),
        (lambda: Forward(lambda m, x: x + m.a(torch.tanh(torch.cat([x, x.clone()], 1))), a=conv(2, 1)), 1),
        (lambda: nn.Upsample(scale_factor=2), 3),
        (lambda: nn.Sequential(nn.Upsample(scale_factor=3), nn.ReLU(), nn.PixelShuffle(2)), 4),
    ],
)
def test_channels_are_what_the_layers_ask_for(make: Callable[[], nn.Module], channels: int) -> None:
    torch.manual_seed(channels)
    module = nn.Sequential(nn.Identity(), make())
    if "InstanceNorm" in str(module):
        module = nn.Sequential(nn.Upsample(scale_factor=2), module)
    assert_matches_eager(module, channels)
