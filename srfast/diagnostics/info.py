"""What is available on this machine, and why something is not."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import shutil
from dataclasses import asdict, dataclass
from itertools import product

import torch

from srfast._version import __version__
from srfast.backends import BACKENDS, cpu_choices, default_dtype
from srfast.backends.cpu import tuned
from srfast.backends.gpu.choice import choose as choose_gpu
from srfast.checkpoint import shipped_models
from srfast.devices import default_device, gpu_reason
from srfast.kernels import cuda, gluon
from srfast.kernels.configs import device_names, networks
from srfast.kernels.cpu.classes import VARIABLE, cpu_class, cpu_vendor, pretended
from srfast.kernels.cuda.config import measured_gpus
from srfast.plan import Plan

# Import name and the distributions that provide it.
PACKAGES = {
    "torch": ("torch",),
    "triton": ("triton",),
    "numpy": ("numpy",),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "av": ("av",),
    "safetensors": ("safetensors",),
    "rich": ("rich",),
}


ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "h264_nvenc", "hevc_nvenc", "av1_nvenc")


@dataclass(frozen=True)
class Info:
    """Versions, devices, choices on the CPU and the GPU by the kind of network, backends and models; every value is text."""

    versions: dict[str, str]
    devices: dict[str, str]
    cpu: dict[str, str]
    gpu: dict[str, str]
    backends: dict[str, str]
    models: dict[str, str]
    tools: dict[str, str]

    def as_dict(self) -> dict[str, dict[str, str]]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = []
        for title, entries in self.as_dict().items():
            lines.append(title)
            lines += [f"  {name:14} {text}" for name, text in entries.items()]
        return "\n".join(lines)


def collect() -> Info:
    """Looks at the machine."""
    return Info(_versions(), _devices(), _cpu(), _gpu(), _backends(), _models(), _tools())


def _versions() -> dict[str, str]:
    versions = {"srfast": __version__, "python": platform.python_version()}
    for name, distributions in PACKAGES.items():
        try:
            # A package may be installed and yet not load, for want of a library of the system: only importing it tells.
            importlib.import_module(name)
            versions[name] = next(filter(None, map(_version, distributions)), "unknown version")
        except ImportError as error:
            versions[name] = f"missing: {error}"
    return versions


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, str]:
    devices = {"cpu": f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"}
    if reason := gpu_reason():
        devices["gpu"] = f"none: {reason}"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    device = default_device()
    devices["default"] = f"{device} in {str(default_dtype(device)).removeprefix('torch.')}"
    return devices


def _cpu() -> dict[str, str]:
    """The class of the CPU, and what is chosen on it for 8-bit images and why."""
    pretence = f" (as {VARIABLE} says)" if pretended()[1] else ""
    found = {"class": f"{cpu_vendor()} {cpu_class()}{pretence}"}
    for kind, choice in cpu_choices().items():
        found[kind] = f"{choice.way.words}: {choice.reason}"
    path = tuned.tuned_path()
    unused = tuned.problem() or (f"{path} is not used, as {VARIABLE} is set" if pretence else None)
    exists = path is not None and path.exists()
    found["tuned"] = (unused or f"by {path}") if exists else "no file of 'srfast tune'; the shipped choice counts"
    return found


def _gpu() -> dict[str, str]:
    """What was measured on the GPU, which file says so, and what is chosen for each kind and size of network."""
    device = default_device()
    names = device_names(device) if device.type == "cuda" else ()
    found: dict[str, str] = {}
    for kind, size in product(networks.KINDS, networks.SIZES):
        if choice := choose_gpu(kind, names, size):
            found[f"{kind}, {size}"] = f"{choice.way}: {choice.reason}"
    deciding = ", ".join(str(file.path) for file in networks.files_of(names))
    said = f"by {deciding}" if deciding else "no file of this GPU: single convolutions decide, without them Triton"
    user = networks.user_file()
    other = f"{user.path} is of {user.gpu} and not used" if user is not None and user.gpu not in names else None
    found["measured"] = "; ".join(filter(None, (said if names else "there is no GPU", other, networks.problem())))
    return found


def _backends() -> dict[str, str]:
    device = default_device()
    dtype = default_dtype(device)
    # A plan of nothing: what is asked is whether a backend runs here at all, whatever the network.
    empty = Plan((), "x", "x", 3)
    return {b.name: ", ".join(b.not_supported_reasons(empty, device, dtype)) or "available" for b in BACKENDS}


def _models() -> dict[str, str]:
    return {name: f"{path.stat().st_size / 1e6:.1f} MB" for name, path in shipped_models().items()}


def _tools() -> dict[str, str]:
    tools = {}
    for name, use in (("c++", "builds the CPU kernels"), ("nvcc", "builds the CUDA kernels")):
        tools[name] = shutil.which(name) or f"missing ({use}; not needed to run)"
    built = ", ".join(f"sm_{arch}" for arch in cuda.architectures())
    if importlib.util.find_spec("triton") is not None:
        tools["Gluon kernels"] = gluon.unavailable_reason() or "available (Hopper)"
    tools["CUDA kernels"] = cuda.unavailable_reason() or f"built for {built}"
    gpus = measured_gpus()
    tools["CUDA speeds"] = f"measured on {', '.join(gpus)}" if gpus else "not measured: auto leaves GPUs to Triton"
    try:
        import av

        from srfast.video.hardware import encoder_opens

        there = [name for name in ENCODERS if name in av.codecs_available]
        tools["encoders"] = ", ".join(n if encoder_opens(av, n) else f"{n} (not usable here)" for n in there)
    except ImportError as error:
        tools["encoders"] = f"none: video needs PyAV ({error})"
    return tools
