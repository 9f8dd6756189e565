"""ONNX files of convolutional networks, as modules of plain PyTorch layers; nothing outside the file is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from srfast.checkpoint.formats.graph import GraphBuilder
from srfast.checkpoint.formats.onnx.ops import OF_CONSTANTS, OPERATIONS
from srfast.checkpoint.formats.onnx.rearrange import Probe, follow, is_rearrangement, probe
from srfast.errors import CheckpointError, MissingDependencyError

MAX_NODES = 5_000  # RRDBNet-23 has 1,300
_FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}
_INTEGERS = {6: np.int32, 7: np.int64}
_BFLOAT16 = 16


def read_onnx(path: Path) -> nn.Module:
    """The network as a traced module, float32.

    Raises:
        CheckpointError: the file is damaged, refers to other files, or has an operation that is not covered.
        MissingDependencyError: the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(f"reading {path} needs the package onnx: pip install onnx ({error})") from error
    try:
        # A model may name any file of the system as the place of its weights.
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf has many of its own
        raise CheckpointError(f"{path} is not a valid ONNX file: {type(error).__name__}") from error
    try:
        return _Reader(model.graph).module()
    except (
        CheckpointError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        RuntimeError,
        OverflowError,
        AttributeError,
    ) as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())[:300]}") from error


def input_channels(module: nn.Module) -> int:
    """Channels of the image that a network from ``read_onnx`` takes; 3 where no convolution tells."""
    channels = next((m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d)), 3)
    for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
        if node.target is F.pixel_unshuffle:  # only ever of the input
            return channels // int(node.args[1]) ** 2
    return channels


class _Reader(GraphBuilder):
    """Builds an fx graph, one ONNX node at a time."""

    def __init__(self, graph: Any) -> None:
        super().__init__()
        if len(graph.node) > MAX_NODES:
            raise CheckpointError(f"it has {len(graph.node)} operations (at most {MAX_NODES})")
        self.graph = graph
        self.constants = {tensor.name: _array(tensor) for tensor in graph.initializer}
        self.values: dict[str, fx.Node | Probe] = {}
        self.image: Probe | None = None  # the input's numbered pixels, for operations that only move them

    def module(self) -> nn.Module:
        inputs = [value for value in self.graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise CheckpointError(
                f"it has {len(inputs)} inputs and {len(self.graph.output)} outputs, not one image each"
            )
        self.input = self.values[inputs[0].name] = self.fx.placeholder("input")
        self.image = probe([d.dim_value for d in inputs[0].type.tensor_type.shape.dim])
        for node in self.graph.node:
            self.add(node)
        result = self.values[self.graph.output[0].name]
        if isinstance(result, Probe):
            raise CheckpointError("its result is the input in another order, not an image from convolutions")
        self.fx.output(result)
        return fx.GraphModule(self.root, self.fx).float()

    def add(self, node: Any) -> None:
        attributes = {a.name: _attribute(a) for a in node.attribute}
        if node.op_type == "Constant":
            self.constants[node.output[0]] = _constant(attributes)
            return
        inputs = [self.value(name, node.op_type) if name else None for name in node.input]
        probes = [self.image if value is self.input and self.image else value for value in inputs]
        if is_rearrangement(node.op_type, probes):
            self.values[node.output[0]] = follow(node.op_type, probes, attributes)
            return
        convert = OPERATIONS.get(node.op_type)
        if convert is None or node.domain not in ("", "ai.onnx"):
            raise CheckpointError(f"no layer covers the operation {node.op_type!r} (at {node.name or node.output[0]})")
        settled = [self.settled(value) for value in inputs]
        # Exporters fold most arithmetic of constants themselves; what is left of it would need a second interpreter here.
        if node.op_type not in OF_CONSTANTS and not isinstance(settled[0], fx.Node):
            raise CheckpointError(f"a {node.op_type} of stored numbers is not covered")
        self.values[node.output[0]] = convert(self, settled, attributes)

    def value(self, name: str, reader: str) -> Any:
        """What was computed or stored under a name."""
        found = self.values.get(name, self.constants.get(name))
        if found is None:
            raise CheckpointError(f"a {reader} reads {name[:60]!r}, which nothing writes")
        return found

    def settled(self, value: Any) -> Any:
        """What a layer reads: the pixel-unshuffle that was followed up to here."""
        if not isinstance(value, Probe):
            return value
        factor = value.factor()
        if factor is None:
            raise CheckpointError("the input is rearranged in a way that is no pixel-unshuffle")
        return self.fx.call_function(F.pixel_unshuffle, (self.input, factor))


def _array(tensor: Any) -> np.ndarray[Any, Any]:
    """The numbers of an initializer, which must all be in the file."""
    name, dims = tensor.name[:60], list(tensor.dims)
    if tensor.data_location == 1:
        raise CheckpointError(f"tensor {name!r} lies in another file; export the model with its weights inside")
    if any(not 0 <= n < 1 << 40 for n in dims) or len(dims) > 8:
        raise CheckpointError(f"tensor {name!r} has the shape {str(dims)[:60]}")
    kinds = _FLOATS | _INTEGERS
    if tensor.data_type not in kinds and tensor.data_type != _BFLOAT16:
        raise CheckpointError(
            f"tensor {name!r} has the ONNX type {tensor.data_type}; float, float16 and bfloat16 are read"
        )
    given: np.ndarray[Any, Any]
    if tensor.data_type == _BFLOAT16:
        given = torch.frombuffer(bytearray(tensor.raw_data), dtype=torch.bfloat16).float().numpy()
    elif tensor.HasField("raw_data"):
        given = np.frombuffer(tensor.raw_data, dtype=kinds[tensor.data_type])
    else:
        fields = {1: tensor.float_data, 11: tensor.double_data, 6: tensor.int32_data, 7: tensor.int64_data}
        if tensor.data_type not in fields:
            raise CheckpointError(f"tensor {name!r} has its numbers in an unusual place; export the model again")
        given = np.asarray(fields[tensor.data_type], dtype=kinds[tensor.data_type])
    if given.size != math.prod(dims):
        raise CheckpointError(f"tensor {name!r} of {dims} has {given.size} numbers")
    return _finite(given, f"tensor {name!r}").reshape(dims)


def _finite(given: np.ndarray[Any, Any], what: str) -> np.ndarray[Any, Any]:
    """The numbers; in float32, as they are used, none may be infinite."""
    with np.errstate(over="ignore"):
        if given.dtype.kind == "f" and not np.isfinite(given.astype(np.float32)).all():
            raise CheckpointError(f"{what} has NaN or infinite values; it cannot give an image")
    return given


def _constant(attributes: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The numbers of a Constant: a tensor, or one or several numbers."""
    if isinstance(attributes.get("value"), np.ndarray):
        return attributes["value"]  # type: ignore[no-any-return]
    for name, kind in (("value_float", np.float32), ("value_int", np.int64)):
        for key in (name, f"{name}s"):
            if key in attributes:
                return _finite(np.asarray(attributes[key], dtype=kind), "a Constant")
    raise CheckpointError(f"a Constant holds {', '.join(attributes)[:60] or 'nothing'}, not numbers")


def _attribute(attribute: Any) -> Any:
    kinds = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints"}
    if attribute.type == 4:
        return _array(attribute.t)
    if attribute.type not in kinds:
        raise CheckpointError(
            f"attribute {attribute.name[:60]!r} holds something other than numbers; subgraphs are not read"
        )
    value = getattr(attribute, kinds[attribute.type])
    return list(value) if attribute.type in (6, 7) else value
