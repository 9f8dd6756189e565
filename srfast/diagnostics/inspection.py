"""What a checkpoint is: architecture, sizes, work and memory, and which backends run it here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from srfast.backends import BACKENDS, default_device, default_dtype, gpu_choice
from srfast.backends.kernel_choice import choices
from srfast.checkpoint import LoadedModel
from srfast.kernels.configs import device_names
from srfast.plan import Plan
from srfast.planning import parts, plan_network


@dataclass(frozen=True)
class Inspection:
    """Facts of one network.

    Attributes:
        architecture, layout, file_kind, values, arguments: as in ``LoadedModel``.
        colours: order of the channels that the network sees.
        scale: output pixels per input pixel along one side.
        parameters: of the module.
        operations: nodes of the fused plan.
        receptive_field: input pixels on each side that an output pixel depends on; None for the whole image.
        alignment: images are continued to multiples of it.
        width, height: size that the following are for, in input pixels.
        gflop: of the convolutions of one image.
        memory_mb: activations of one untiled image at their peak, in the default type, in 10**6 bytes.
        backends: for each, "available" or the reasons why not.
        kernels: for each shape of convolution, whose kernel ``auto`` takes on this GPU (on one without measurements, where
            there is none), and why; before them the backend of the whole network, where networks were measured.
        parts: which operations srfast's kernels run, and which PyTorch.
        blends: tiles overlap and are blended; they are not exact.
    """

    architecture: str
    layout: str
    file_kind: str
    values: str
    colours: str
    arguments: dict[str, Any]
    scale: int
    parameters: int
    operations: int
    receptive_field: int | None
    alignment: int
    width: int
    height: int
    gflop: float
    memory_mb: float
    backends: dict[str, str]
    kernels: dict[str, str]
    parts: str = ""
    blends: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        field = (
            "unknown: whole images, or tiles that overlap, are blended and not exact"
            if self.blends
            else "the whole image, so no tiles"
            if self.receptive_field is None
            else f"{self.receptive_field} px on each side"
        )
        arguments = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        rows = {
            "architecture": f"{self.architecture} x{self.scale}, keys of {self.layout} ({self.file_kind})",
            "arguments": arguments or "those of the file",
            "values": f"{self.values}; {self.colours}",
            "parameters": f"{self.parameters:,}",
            "operations": f"{self.operations} after fusion; {self.parts}",
            "receptive field": field,
            "alignment": f"{self.alignment} px",
            f"at {self.width}x{self.height}": f"{self.gflop:,.1f} GFLOP, {self.memory_mb:,.0f} MB of activations without tiles",
        }
        lines = [f"{name:16}{text}" for name, text in rows.items()]
        lines += ["backends", *(f"  {name:14}{text}" for name, text in self.backends.items())]
        return "\n".join([*lines, "GPU kernels", *(f"  {name:22}{text}" for name, text in self.kernels.items())])


def colours_of(channels: int) -> str:
    """What the channels that a network sees are, in their order, in words."""
    known = {1: "1 channel (gray, or the luma of colours)", 3: "RGB", 4: "RGBA"}
    return known.get(channels, f"{channels} channels")


def inspect_model(model: LoadedModel, width: int = 1280, height: int = 720) -> tuple[Inspection, Plan]:
    """Facts of a loaded network for images of ``width`` x ``height`` pixels, and its fused plan.

    Examples:
        >>> from srfast.checkpoint import load_model
        >>> found, plan = inspect_model(load_model("compact_x2"))
        >>> plan.scale
        2
    """
    plan = plan_network(model.module)
    device = default_device()
    dtype = default_dtype(device, plan)
    name = f"{str(dtype).removeprefix('torch.')} on {device}"
    reasons = {b.name: b.not_supported_reasons(plan, device, dtype) for b in BACKENDS}
    measured = gpu_choice(plan, device, dtype, width * height)
    whole = {} if measured is None else {"the whole network": f"{measured.way}: {measured.reason}"}
    inspection = Inspection(
        architecture=model.architecture,
        layout=model.layout,
        file_kind=model.file_kind,
        values=model.values,
        colours=colours_of(plan.in_channels),
        arguments={key: list(v) if isinstance(v, tuple) else v for key, v in model.arguments.items()},
        scale=plan.scale,
        parameters=sum(p.numel() for p in model.module.parameters()),
        operations=len(plan.nodes),
        receptive_field=plan.halo(),
        alignment=plan.alignment,
        width=width,
        height=height,
        gflop=plan.flops(height, width) / 1e9,
        memory_mb=float(plan.peak_elements()) * width * height * dtype.itemsize / 1e6,
        backends={
            b: f"available ({name})" if not why else f"not in {name}: {'; '.join(why)}" for b, why in reasons.items()
        },
        kernels=whole | choices(plan, device_names(device)),
        parts=parts(plan),
        blends=plan.blends,
    )
    return inspection, plan
