"""The border between Python and the compiled CPU module: the stub says what is there, and errors name the field given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import srfast
from srfast.kernels import cpu
from tests.helpers.stubs import module_names, stub_names

pytestmark = pytest.mark.skipif(cpu.unavailable_reason() is not None, reason=str(cpu.unavailable_reason()))


def _module() -> Any:
    import srfast._cpu

    return srfast._cpu


def test_the_stub_has_the_names_and_arguments_of_the_module() -> None:
    stub = stub_names(Path(srfast.__file__).parent / "_cpu.pyi")
    assert stub == module_names(_module())
    assert stub["Step.__init__"] == ("self", "layer", "first", "last")
    assert stub["Program.run"] == ("self", "*", "inputs", "outputs", "threads")


# What a 3x3 convolution of 16 to 32 channels is given, of activations 0 (16 channels), 1 (32) and 2 (48).
CONV = {
    "inputs": [0],
    "output": 1,
    "residual": None,
    "residual_factor": 1,
    "weight": 32 * 16 * 9,
    "bias": 32,
    "curve": "none",
    "slope": 0,
    "out_channels": 32,
    "kernel": 3,
    "shuffle": 1,
    "stride": 1,
    "offset": 0,
    "gain": 1.0,
    "low": float("-inf"),
    "high": float("inf"),
    "algorithm": "direct",
    "input_inverse": 1.0,
    "input_zero": 0,
}


def _program() -> Any:
    program = _module().Program(instruction_set=cpu.instruction_sets()[0], cache=1 << 19)
    for channels in (16, 32, 48):
        program.activation(channels, is_input=channels == 16, is_output=channels == 32)
    return program


def _conv(**changes: Any) -> None:
    module, zeros = _module(), torch.zeros(1 << 16)
    fields = {**CONV, **changes}
    for name in ("weight", "bias", "slope"):
        fields[name] = module.FloatView(address=zeros.data_ptr(), count=fields[name])
    if isinstance(fields["algorithm"], str):
        fields["algorithm"] = getattr(module.Algorithm, fields["algorithm"])
    if isinstance(fields["curve"], str):
        fields["curve"] = getattr(module.Curve, fields["curve"])
    _program().conv(module.ConvSpec(**fields))


def test_a_convolution_that_fits_is_taken() -> None:
    _conv()
    _conv(residual=1, curve="prelu", slope=1)
    _conv(curve="prelu", slope=32, algorithm="winograd")
    _conv(curve="silu")
    _conv(stride=3, offset=-2)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("inputs", {"inputs": []}),
        ("inputs", {"inputs": [3]}),
        ("inputs", {"inputs": [-1]}),
        ("output", {"output": 3}),
        ("residual", {"residual": 7}),
        ("residual", {"residual": 2}),
        ("residual_factor", {"residual_factor": 0}),
        ("stride", {"stride": 0}),
        ("stride", {"stride": 3, "algorithm": "winograd"}),
        ("kernel", {"stride": 2}),
        ("offset", {"offset": 1}),
        ("offset", {"stride": 3, "offset": -3}),
        ("weight", {"weight": 32 * 16 * 9 - 1}),
        ("bias", {"bias": 31}),
        ("slope", {"curve": "prelu", "slope": 2}),
        ("slope", {"curve": "prelu"}),
        ("slope", {"curve": "silu", "slope": 1}),
        ("slope", {"slope": 32}),
        ("out_channels", {"out_channels": 0}),
        ("out_channels", {"out_channels": 48}),
        ("kernel", {"kernel": 4}),
        ("kernel", {"kernel": -3}),
        ("shuffle", {"shuffle": 0}),
        ("algorithm", {"kernel": 7, "weight": 32 * 16 * 49, "algorithm": "winograd"}),
        ("algorithm", {"kernel": 33, "weight": 32 * 16 * 33 * 33, "algorithm": "fourier"}),
        ("algorithm", {"algorithm": "lowp"}),
    ],
)
def test_an_error_begins_with_the_field(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        _conv(**changes)


def test_codes_and_missing_fields_are_no_arguments() -> None:
    module = _module()
    with pytest.raises(TypeError, match=r"algorithm: srfast\._cpu\.Algorithm"):
        _conv(algorithm=1)
    with pytest.raises(TypeError, match=r"curve: srfast\._cpu\.Curve"):
        _conv(curve=1)
    with pytest.raises(TypeError, match="layer: "):
        module.Step(0, 1)
    with pytest.raises(TypeError, match="element: "):
        module.Buffer(address=0, element=True, row=0, column=0, channel=1)


def test_names_of_operations_and_curves_come_from_the_module() -> None:
    network = cpu.Network()
    a, b = network.activation(4, input=True), network.activation(4, output=True)
    with pytest.raises(ValueError, match=r"^operation: 'blur' is none of affine, activate, "):
        network.node([a], b, "blur")
    with pytest.raises(ValueError, match=r"^curve: 'sine' is none of prelu, tanh, "):
        network.node([a], b, "activate", curve="sine")
    with pytest.raises(ValueError, match=r"^inputs: there is no activation 9 among 2"):
        network.node([9], b, "clamp")
    with pytest.raises(ValueError, match=r"^inset: "):
        network.node([a], b, "channel_gate", inset=(-1, 0))
