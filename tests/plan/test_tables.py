"""Every kind of operation stands in every table, so that a forgotten one fails here and not as a seam in a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from srfast.backends.base import reference_only
from srfast.backends.cpu.operations import operation
from srfast.backends.reference import run_node
from srfast.backends.triton import TritonBackend
from srfast.backends.triton.ops import small_launches
from srfast.capture.input_channels import channels_of
from srfast.plan import Conv, Eager, Node, Plan
from srfast.plan.export_onnx import WRITERS
from srfast.plan.nodes import node_types

# Operations that no compiled kernel has, and that the backends refuse or leave to the reference: ``reference_only``.
WITHOUT_KERNELS: dict[type[Node], Node] = {Eager: Eager("y", "x", (), torch.nn.Softplus(), (3,), 3, 1, "softplus", "")}
# What is dispatched on the class of a node; convolutions have a form of their own in the compiled backends.
TABLES: dict[str, tuple[Any, set[type[Node]]]] = {
    "reference": (run_node, set()),
    "CPU kernels": (operation, {Conv, *WITHOUT_KERNELS}),
    "Triton kernels": (small_launches, {Conv, *WITHOUT_KERNELS}),
    "channels of the input": (channels_of, set()),
}


@pytest.mark.parametrize("kind", node_types(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", TABLES)
def test_tables_are_complete(name: str, kind: type[Node]) -> None:
    table, elsewhere = TABLES[name]
    assert kind in elsewhere or table.dispatch(kind) is not table.dispatch(object), (
        f"{kind.__name__} is missing from the table of the {name}"
    )


@pytest.mark.parametrize("kind", WITHOUT_KERNELS, ids=lambda kind: kind.__name__)
def test_what_has_no_kernel_is_a_reason(kind: type[Node]) -> None:
    plan = Plan((WITHOUT_KERNELS[kind],), "x", "y", 3)
    assert reference_only(plan) != []
    assert TritonBackend(interpret=True).not_supported_reasons(plan, torch.device("cpu"), torch.float16) != []


def test_onnx_table_is_complete() -> None:
    assert set(WRITERS) == set(node_types())


def test_a_node_states_everything() -> None:
    """A class that leaves out its shape, what it reads or its work cannot be made."""
    for missing in ("shape", "reads", "multiply_adds"):
        members: dict[str, Callable[..., Any]] = {
            "shape": lambda self, shapes: shapes[self.input],
            "reads": lambda self, span, block=1: [span],
            "multiply_adds": lambda self, shapes: 0,
        }
        del members[missing]
        kind = dataclasses.dataclass(frozen=True, eq=False)(type("Half", (Node,), members))
        with pytest.raises(TypeError, match=missing):
            kind("y", "x")


@pytest.mark.parametrize("kind", node_types(), ids=lambda kind: kind.__name__)
def test_a_node_says_whether_it_sees_the_whole_image(kind: type[Node]) -> None:
    assert isinstance(kind.sees_whole_image, bool)
