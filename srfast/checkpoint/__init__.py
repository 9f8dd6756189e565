"""Checkpoints: from a file, or the name of a shipped model, to a PyTorch module. No code from a file is ever run."""

from __future__ import annotations

import os
import pickle
import stat
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from srfast.errors import CheckpointError
from srfast.models import SRResNet, SRVGGNetCompact

WEIGHTS = Path(__file__).parent / "weights"
MAX_BYTES = 2 << 30  # of a file, and of what it unpacks to: the largest public networks of this kind have 300 MB
WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "generator", "net")
PREFIXES = ("module.", "_orig_mod.", "generator.", "netG.")

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class LoadedModel:
    """A network with the facts that its file told."""

    module: nn.Module
    architecture: str
    scale: int
    name: str


@dataclass(frozen=True)
class Architecture:
    """How one architecture is recognised and built: ``marks`` are keys that only it has."""

    name: str
    marks: tuple[str, ...]
    build: Callable[[StateDict], nn.Module]


def _count(state: StateDict, pattern: str) -> int:
    """Number of consecutive N from 0 for which ``pattern.format(N)`` is a key."""
    n = 0
    while pattern.format(n) in state:
        n += 1
    return n


def _build_srresnet(state: StateDict) -> nn.Module:
    first, last = state["conv1.0.weight"], state["conv3.weight"]
    return SRResNet(
        scale=2 ** _count(state, "upsampling.{}.upsample_block.0.weight"),
        in_channels=first.shape[1],
        out_channels=last.shape[0],
        channels=first.shape[0],
        num_blocks=_count(state, "trunk.{}.rcb.0.weight"),
    )


def _build_compact(state: StateDict) -> nn.Module:
    convs = sorted(int(k.split(".")[1]) for k in state if k.endswith(".weight") and state[k].ndim == 4)
    first, last = state["body.0.weight"], state[f"body.{convs[-1]}.weight"]
    in_channels = first.shape[1]
    upscale = round((last.shape[0] / in_channels) ** 0.5)
    return SRVGGNetCompact(
        num_in_ch=in_channels,
        num_out_ch=last.shape[0] // upscale**2,
        num_feat=first.shape[0],
        num_conv=len(convs) - 2,
        upscale=upscale,
        act_type="prelu" if "body.1.weight" in state else "relu",
    )


# The first whose marks are all there wins.
ARCHITECTURES = (
    Architecture("SRResNet", ("conv1.0.weight", "trunk.0.rcb.0.weight", "conv3.weight"), _build_srresnet),
    Architecture("SRVGGNetCompact", ("body.0.weight", "body.2.weight", "body.2.bias"), _build_compact),
)


def shipped_models() -> dict[str, Path]:
    """Names and files of the models that come with srfast."""
    return {p.stem: p for p in sorted(WEIGHTS.glob("*.safetensors"))}


def load_model(source: str | os.PathLike[str]) -> LoadedModel:
    """Loads a checkpoint into a module in eval mode, float32, on the CPU.

    Args:
        source: path of a .safetensors, .pth, .pt or .ckpt file that holds a state_dict, or the name of a shipped model.

    Raises:
        CheckpointError: no such file or name, not a checkpoint, or of no known architecture.
    """
    names = shipped_models()
    path = names.get(str(source)) or Path(source)
    if not path.exists():
        known = ", ".join(names) or "none"
        raise CheckpointError(f"no checkpoint file and no shipped model is called {str(source)!r} (shipped: {known})")
    state = _strip(_read(path), path)
    architecture = _detect(state, path)
    module = _build(architecture, state, path)
    return LoadedModel(module.eval(), architecture.name, int(module.scale), path.stem)  # type: ignore[arg-type]


def save_checkpoint(module: nn.Module, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes the module's state as safetensors; the file appears under its name only when it is whole.

    Args:
        module: one of ``srfast.models``.
        path: the file to write; an existing one is replaced.
        dtype: type that convolution weights are stored in; everything else stays float32.
    """
    state = {}
    for key, value in module.state_dict().items():
        wide = value.is_floating_point() and value.ndim != 4
        state[key] = value.detach().to("cpu", torch.float32 if wide else dtype if value.ndim == 4 else value.dtype)
        state[key] = state[key].contiguous()
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as partial:
        try:
            partial.write(safetensors.torch.save(state, {"format": "pt", "architecture": type(module).__name__}))
            partial.close()
            os.chmod(partial.name, 0o644)
            os.replace(partial.name, path)
        except BaseException:
            os.unlink(partial.name)
            raise


def _read(path: Path) -> object:
    if not stat.S_ISREG(path.stat().st_mode):
        raise CheckpointError(f"{path} is not a regular file; give a .safetensors or .pth file")
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"{path} is empty; the download or copy was cut off")
    if size > MAX_BYTES:
        raise CheckpointError(f"{path} has {size} bytes, over the limit of {MAX_BYTES} for a super-resolution network")
    with open(path, "rb") as file:
        head = file.read(16)
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path)
    return _read_torch(path)


def _read_safetensors(path: Path) -> object:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a valid safetensors file: {error}") from error


def _read_torch(path: Path) -> object:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if any(entry.filename.endswith("/constants.pkl") for entry in archive.infolist()):
                raise CheckpointError(f"{path} is TorchScript; save the network's state_dict() instead")
        if unpacked > MAX_BYTES:
            raise CheckpointError(f"{path} unpacks to {unpacked} bytes, over the limit of {MAX_BYTES}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise CheckpointError(
                f"{path} holds pickled Python objects, which srfast does not run; in the program that made it, "
                "re-save with torch.save(model.state_dict(), ...)"
            ) from error
        raise CheckpointError(f"{path} is not a PyTorch checkpoint") from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        # A damaged pickle can fail anywhere in the unpickler.
        raise CheckpointError(f"{path} is not a PyTorch checkpoint, or is damaged ({type(error).__name__})") from error


def _strip(content: object, path: Path) -> dict[str, Tensor]:
    """Takes the state_dict out of its wrappers and drops prefixes that wrappers of modules leave."""
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state_dict of tensors")
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(value, Tensor):
            continue
        name = str(key)
        while any(name.startswith(p) for p in PREFIXES):
            name = name.split(".", 1)[1]
        state[name] = value
    if not state:
        raise CheckpointError(f"{path} holds no tensors, so it is not a checkpoint of a network")
    return state


def _detect(state: StateDict, path: Path) -> Architecture:
    for architecture in ARCHITECTURES:
        if all(mark in state for mark in architecture.marks):
            return architecture
    looked = "; ".join(f"{a.name}: {', '.join(a.marks)}" for a in ARCHITECTURES)
    found = ", ".join(list(state)[:4])
    raise CheckpointError(f"{path} is of no known architecture: its keys begin with {found}. Looked for {looked}")


def _build(architecture: Architecture, state: dict[str, Tensor], path: Path) -> nn.Module:
    try:
        module = architecture.build(state)
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (RuntimeError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path} looks like {architecture.name} but does not fit it: {reason}") from error
    broken = [k for k, v in module.state_dict().items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if broken:
        raise CheckpointError(f"{path} has NaN or infinite values in {', '.join(broken[:3])}; it cannot give an image")
    return module
