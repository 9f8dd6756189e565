"""Writes the graphs of ``tests/checkpoint/onnx/graphs``: what PyTorch's exporter by torch.export makes, without weights.

It needs the package onnxscript, which the tests do not: ``python -m tests.checkpoint.onnx.make_dynamo [NAME ...]``.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import onnx.printer
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models import SRResNet, SRVGGNetCompact
from srfast.models.plksr import RealPLKSR
from srfast.models.rcan import RCAN
from srfast.models.span import SPAN
from tests.checkpoint.onnx.test_exported import Mirrored, Parts, Player

GRAPHS = Path(__file__).parent / "graphs"
NAMED = (".weight", ".bias")


class Upconv(nn.Module):
    """A mirrored border of 7, unpadded convolutions and a transposed one, as waifu2x's upconv_7 has them.

    Args:
        as_layer: the border is a layer, not a function.
    """

    def __init__(self, as_layer: bool = False) -> None:
        super().__init__()
        self.border = nn.ReflectionPad2d(7) if as_layer else None
        layers: list[nn.Module] = []
        widths = (3, 4, 4, 6, 6, 8, 8)
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3), nn.LeakyReLU(0.1)]
        self.body = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(self.border(x) if self.border is not None else F.pad(x, (7, 7, 7, 7), "reflect"))
        return y


@dataclass(frozen=True)
class Export:
    """A network and how it is exported.

    Attributes:
        make: builds it.
        opset: the operation set.
        size: height and width of the image that it is traced with.
        free: the file takes images of any size.
        half: the file is of float16.
    """

    make: Callable[[], nn.Module]
    opset: int = 21
    size: tuple[int, int] = (16, 24)
    free: bool = True
    half: bool = False


def _compact(scale: int) -> SRVGGNetCompact:
    return SRVGGNetCompact(num_feat=6, num_conv=1, upscale=scale)


EXPORTS = {
    "span": Export(lambda: SPAN(num_feat=8, num_blocks=6, upscale=2)),
    "span_18": Export(lambda: SPAN(num_feat=8, num_blocks=2, upscale=4, norm=False), opset=18),
    "span_half": Export(lambda: SPAN(num_feat=8, num_blocks=2, upscale=2, norm=False), half=True),
    "upconv": Export(Upconv, size=(15, 23)),
    "upconv_layer": Export(lambda: Upconv(as_layer=True)),
    "upconv_fixed": Export(Upconv, size=(15, 23), free=False),
    "mirrored_18": Export(Mirrored, opset=18),
    "srresnet_x2": Export(lambda: SRResNet(scale=2, channels=8, num_blocks=1)),
    "srresnet_x4": Export(lambda: SRResNet(scale=4, channels=8, num_blocks=1), size=(15, 23)),
    "compact_18": Export(lambda: _compact(2), opset=18),
    "compact_x3": Export(lambda: _compact(3), size=(15, 23)),
    "compact_fixed": Export(lambda: _compact(2), size=(15, 23), free=False),
    "spanf3": Export(Player, size=(15, 23)),
    "spanf3_fixed": Export(Player, size=(15, 23), free=False),
    "parts": Export(Parts),
    "parts_18": Export(Parts, opset=18),
    "plksr_groups": Export(lambda: RealPLKSR(upscale=2, num_feat=8, num_blocks=1, partial=4)),
    "rcan": Export(lambda: RCAN(upscale=2, num_groups=1, num_blocks=1, num_feat=8)),
}


def exported(export: Export, path: Path) -> None:
    """Write the file as PyTorch's exporter makes it."""
    torch.manual_seed(0)
    dtype = torch.float16 if export.half else torch.float32
    module = export.make().eval().to(dtype)
    size = torch.export.Dim.DYNAMIC
    shapes = {"dynamic_shapes": ({2: size, 3: size},)} if export.free else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.rand(1, 3, *export.size, dtype=dtype),),
            str(path),
            dynamo=True,
            external_data=False,
            input_names=["input"],
            output_names=["output"],
            opset_version=export.opset,
            **shapes,
        )


def as_text(model: Any) -> str:
    """The graph without weights, which become inputs, and without what the exporter notes about itself."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        for name in ("metadata_props", "doc_string", "producer_name", "producer_version"):
            if name in part.DESCRIPTOR.fields_by_name:
                part.ClearField(name)
    del graph.value_info[:]
    for tensor in list(graph.initializer):
        if tensor.data_type in (1, 10) and (tensor.name.endswith(NAMED) or len(tensor.dims) == 4):
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
            graph.initializer.remove(tensor)
    text: str = onnx.printer.to_text(model)
    assert onnx.printer.to_text(onnx.parser.parse_model(text)) == text
    return text + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:] or EXPORTS:
        with tempfile.TemporaryDirectory() as folder:
            exported(EXPORTS[name], Path(folder) / "n.onnx")
            (GRAPHS / f"{name}.txt").write_text(as_text(onnx.load(str(Path(folder) / "n.onnx"))), encoding="utf-8")
