"""What capture reads: a copy of the module with the weights that a call would use, and its graph by ``torch.fx``."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from srfast._torch_private import forward_hooks, hooks_on_all_modules, pruned_name, remove_hook
from srfast.errors import UnsupportedModelError
from srfast.models.bordered import Bordered
from srfast.models.norms import PixelNorm2d, RootMeanSquare2d

_WEIGHT_HOOKS = (WeightNorm, SpectralNorm, BasePruningMethod)  # compute a weight before each call
_OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")


def settled_copy(module: nn.Module) -> nn.Module:
    """A copy on the CPU, in eval mode, whose weights are plain tensors of the values that a call in eval mode computes.

    Raises:
        UnsupportedModelError: the module does not let itself be copied.
    """
    # deepcopy takes no tensor with a history, such as the weight beside the parameters of weight normalisation.
    values = [value for part in module.modules() for value in vars(part).values()]
    known: dict[int, Any] = {id(v): v.detach().clone() for v in values if isinstance(v, Tensor) and not v.is_leaf}
    try:
        copied = copy.deepcopy(module, known).eval().cpu()
        with torch.no_grad():
            for part in list(copied.modules()):
                _settle_hooks(part)
                _settle_parametrizations(part)
    except Exception as error:  # a module's own code runs here
        raise UnsupportedModelError(f"{type(module).__name__} cannot be copied: {_reason(error)}") from error
    return copied


def _settle_hooks(part: nn.Module) -> None:
    """The old-style normalisations and pruning: their weight once more, then for good."""
    names = []
    for key, hook in forward_hooks(part).items():
        if isinstance(hook, _WEIGHT_HOOKS):
            hook(part, None)
            names.append(pruned_name(hook) if isinstance(hook, BasePruningMethod) else hook.name)
            remove_hook(part, key)
    for name in dict.fromkeys(names):
        _store(part, name, vars(part).pop(name))


def _settle_parametrizations(part: nn.Module) -> None:
    if not parametrize.is_parametrized(part):
        return
    values = {name: getattr(part, name) for name in list(part.parametrizations)}  # type: ignore[arg-type]
    del part.parametrizations
    # PyTorch's own removal changes the class, which the original shares with its copy.
    part.__class__ = type(part).__bases__[0]
    for name, value in values.items():
        _store(part, name, value)


def _store(part: nn.Module, name: str, value: Tensor) -> None:
    part.register_parameter(name, nn.Parameter(value.detach().clone(), requires_grad=False))


def check_called_as_written(part: nn.Module, where: str) -> None:
    """Refuses what a call of the module would do and tracing does not see.

    Raises:
        UnsupportedModelError: names the hook or the replaced method.
    """
    name = type(part).__name__
    for hook in forward_hooks(part).values():
        raise UnsupportedModelError(
            f"{where} ({name}) has the forward hook {_name(hook)}, which a plan does not run: remove "
            "it (its handle has remove()), or do in forward() what it does"
        )
    if "forward" in vars(part):
        raise UnsupportedModelError(
            f"{where} ({name}) has a forward() of its own in place of its class's, which a plan does not run: "
            "make it a class with that forward()"
        )
    if part.training:
        raise UnsupportedModelError(f"{where} ({name}) stays in training mode after eval(); srfast runs eval mode only")


def trace(module: nn.Module) -> fx.Graph:
    """The operations of the module in order.

    Raises:
        UnsupportedModelError: it cannot be traced, or tracing would not see all that a call does.
    """
    return _traced(module, _Tracer(module))


def trace_with_leaves(module: nn.Module) -> fx.Graph:
    """The same, with modules that cannot be traced as single operations: their code depends on what sizes are.

    Raises:
        UnsupportedModelError: the module's own forward() cannot be traced.
    """
    leaves: set[str] = set()
    # A parent can be traced once the children that cannot are single operations in it.
    for name, part in reversed(list(module.named_modules())):  # children before their parents
        if name and not fx.Tracer().is_leaf_module(part, name) and not _can_be_traced(part, name, leaves):
            leaves.add(name)
    return _traced(module, _Tracer(module, frozenset(leaves)))


def _can_be_traced(part: nn.Module, name: str, leaves: set[str]) -> bool:
    if forward_hooks(part) or "forward" in vars(part):
        return False
    inside = frozenset(leaf.removeprefix(f"{name}.") for leaf in leaves if leaf.startswith(f"{name}."))
    try:
        _Tracer(part, inside).trace(part)
    except Exception:  # the module's own code runs here
        return False
    return True


def _traced(module: nn.Module, tracer: _Tracer) -> fx.Graph:
    check_called_as_written(module, "the network")
    for hook in hooks_on_all_modules():
        raise UnsupportedModelError(
            f"the forward hook {_name(hook)} is on all modules, and a plan does not run it: remove it"
        )
    # A module that draws numbers while it is traced would be frozen with those numbers in it.
    random_state = torch.random.get_rng_state()
    try:
        graph = tracer.trace(module)
    except UnsupportedModelError:
        raise
    except Exception as error:  # the module's own code runs here
        raise UnsupportedModelError(f"{type(module).__name__} cannot be traced: {_reason(error)}") from error
    if not torch.equal(random_state, torch.random.get_rng_state()):
        raise UnsupportedModelError(f"{type(module).__name__} draws random numbers; srfast runs fixed functions only")
    return graph


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _name(hook: Any) -> str:
    return str(getattr(hook, "__name__", type(hook).__name__))


class _Proxy(fx.Proxy):
    """Keeps ``x += y`` apart from ``x = x + y``, which changes no other name of the tensor."""


def _in_place(name: str) -> Callable[[_Proxy, Any], fx.Proxy]:
    def change(self: _Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", getattr(operator, f"i{name}"), (self, other), {})

    return change


for _operator in _OPERATORS:
    # fx itself traces ``x += y`` as ``x = x + y``, which is another program where the tensor has two names.
    setattr(_Proxy, f"__i{_operator}__", _in_place(_operator))


class _Tracer(fx.Tracer):
    def __init__(self, module: nn.Module, leaves: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._leaves = leaves
        if isinstance(module, Bordered):  # the engine gives the border and takes it away
            self.traced_func_name = "body"

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            module_qualified_name in self._leaves
            or isinstance(m, (PixelNorm2d, RootMeanSquare2d))
            or super().is_leaf_module(m, module_qualified_name)
        )

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)
