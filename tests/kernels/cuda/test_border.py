"""The border between Python and the compiled CUDA module: the stub says what is there, and errors name the field given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import srfast
from srfast.backends.cuda import CudaBackend
from srfast.backends.cuda.convs import conv_reason
from srfast.backends.reference import ReferenceBackend
from srfast.kernels import cuda
from srfast.kernels.cuda.pack import ACTS, pack_conv
from srfast.plan import Conv, Plan
from tests.helpers.stubs import module_names, stub_names

STUB = Path(srfast.__file__).parent / "_cuda.pyi"


def test_the_stub_has_the_names_and_arguments_of_the_module(emulated_module: Any) -> None:
    stub = stub_names(STUB)
    assert stub == module_names(emulated_module)
    assert stub["View.__init__"] == ("self", "*", "address", "image_stride", "row_stride", "pixel_stride")


@pytest.mark.skipif(cuda.unavailable_reason() is not None, reason=str(cuda.unavailable_reason()))
def test_the_module_of_nvcc_has_the_same() -> None:
    assert stub_names(STUB) == module_names(cuda.compiled)


def _view(module: Any) -> Any:
    return module.View(address=64, image_stride=1024, row_stride=256, pixel_stride=64)


def _conv(module: Any, **changes: Any) -> Any:
    end = {
        "bias": 64,
        "slope": 64,
        "residual": None,
        "residual_factor": 1,
        "out": _view(module),
        "out_type": module.OutType.same,
        "steps": 1.0,
        "flag": 0,
        "act": module.Act.none,
        "channels": 64,
        "shuffle": 1,
        "gain": 1.0,
        "clamp": None,
    }
    conv = {"images": 1, "height": 4, "width": 4, "kernel": 3, "blocks_c": 1, "in_channels": 64}
    end |= {name: value for name, value in changes.items() if name in end}
    conv |= {name: value for name, value in changes.items() if name in conv}
    return module.ConvParams(x=_view(module), weight=64, epilogue=module.Epilogue(**end), **conv)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channels", 0),
        ("shuffle", 0),
        ("residual_factor", 0),
        ("images", 0),
        ("height", -1),
        ("width", 0),
        ("kernel", 2),
        ("kernel", -1),
        ("blocks_c", 0),
        ("in_channels", 0),
    ],
)
def test_an_error_begins_with_the_field(emulated_module: Any, field: str, value: int) -> None:
    _conv(emulated_module)
    with pytest.raises(ValueError, match=f"^{field}: .*{value}"):
        _conv(emulated_module, **{field: value})


def test_fields_that_do_not_fit_each_other_are_refused(emulated_module: Any) -> None:
    module = emulated_module
    with pytest.raises(ValueError, match=r"^channels: 64 cannot be shuffled by 3"):
        _conv(module, shuffle=3)
    with pytest.raises(ValueError, match=r"^flag: "):
        _conv(module, out_type=module.OutType.uint8)
    pair = {"dtype": module.DType.float16, "first_weight": 64, "first_bias": 64, "first_slope": 64}
    with pytest.raises(ValueError, match=r"^in_channels: "):
        module.PairLaunch(form=module.PairForm.pair, rows=0, blocks=0, second=_conv(module, in_channels=32), **pair)
    with pytest.raises(ValueError, match=r"^rows: "):
        module.PairLaunch(form=module.PairForm.pair_wgmma, rows=0, blocks=2, second=_conv(module), **pair)
    tail = {"dtype": module.DType.float16, "rows": 4, "first_bias": 64, "first_slope": 64}
    with pytest.raises(ValueError, match=r"^kernel: "):
        module.TailLaunch(form=module.TailForm.tail, second=_conv(module), **tail)
    frame = {"frame": _view(module), "image": _view(module), "wide": False, "images": 1, "height": 2, "width": 2}
    frame |= {"channels": 3, "swap": False, "matrix": [0.0] * 9, "offset": [0.0] * 3, "gain": 1.0, "peak": 255.0}
    with pytest.raises(ValueError, match=r"^shift: "):
        module.FrameParams(chroma=None, shift=16, flag=0, **frame)
    params = module.FrameParams(chroma=None, shift=0, flag=0, **frame)
    for job, field in ((module.FrameJob.packed_out, "flag"), (module.FrameJob.yuv_in, "chroma")):
        with pytest.raises(ValueError, match=f"^{field}: "):
            module.FrameLaunch(dtype=module.DType.float16, job=job, params=params)


def test_what_is_wrong_with_a_trunk_is_named(emulated_module: Any) -> None:
    module = emulated_module
    layer = {"source": 0, "out": 1, "residual": None, "prelu": True, "gain": 1.0}
    for changes in ({"out": 0}, {"source": 8}, {"residual": -1}, {"prelu": False}):
        with pytest.raises(ValueError, match=f"^{next(iter(changes))}: "):
            module.TrunkLayer(**layer | changes)
    trunk = {
        "dtype": module.DType.float16,
        "rows": 2,
        "blocks": 1,
        "conv": _conv(module),
        "images": [64, 128],
        "counters": 64,
    }
    trunk["layers"] = [module.TrunkLayer(**layer)]
    module.TrunkLaunch(**trunk)
    for field, value in (
        ("rows", 0),
        ("blocks", 0),
        ("images", [64] * 9),
        ("layers", []),
        ("conv", _conv(module, kernel=5)),
    ):
        with pytest.raises(ValueError, match=f"^{field}: "):
            module.TrunkLaunch(**trunk | {field: value})
    with pytest.raises(ValueError, match=r"^layers: one names image 1 of 1"):
        module.TrunkLaunch(**trunk | {"images": [64]})


def test_a_variant_that_is_not_compiled_is_refused_before_the_launch(emulated_module: Any) -> None:
    variant = emulated_module.Variant(block_c=24, block_o=64, kernel=3, tile_h=8, tile_w=16, pixel_stride=0)
    with pytest.raises(ValueError, match="no compiled convolution"):
        emulated_module.ConvLaunch(dtype=emulated_module.DType.float16, variant=variant, params=_conv(emulated_module))


def test_codes_are_no_arguments(emulated_module: Any) -> None:
    with pytest.raises(TypeError, match="act: "):
        _conv(emulated_module, act=1)


@pytest.mark.usefixtures("emulated_cuda")
@pytest.mark.parametrize("act", ["silu", "gelu", "mish"])
def test_an_activation_that_the_kernels_lack_is_no_silent_none(emulated_module: Any, act: str) -> None:
    assert set(ACTS) == set(emulated_module.Act.__members__)
    with pytest.raises(ValueError, match=f"not '{act}'"):
        pack_conv(torch.zeros(16, 16, 3, 3), torch.zeros(16), act=act)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(16, 16, 3, 3, generator=generator) / 12
    node = Conv("y", "x", weight, torch.randn(16, generator=generator), act=act, gain=0.5)  # type: ignore[arg-type]
    assert f"not in {act}" in str(conv_reason(node))
    # The backend has it after the convolution.
    plan, cpu = Plan((node,), "x", "y", 16), torch.device("cpu")
    assert CudaBackend().not_supported_reasons(plan, cpu, torch.float16) == []
    x = torch.randn(1, 16, 5, 9, generator=generator).half()
    got = CudaBackend(graphs=False).compile(plan, cpu, torch.float16)(x).double()
    expected = ReferenceBackend().compile(plan, cpu, torch.float64)(x.double())
    torch.testing.assert_close(got, expected, rtol=4e-3, atol=4e-3)
