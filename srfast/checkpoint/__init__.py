"""Checkpoints: from a file, or the name of a shipped model, to a PyTorch module. No code from a file is ever run."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from srfast._files import whole_file
from srfast.checkpoint import catalogue
from srfast.checkpoint.formats.ncnn.reader import BINARY_MAGIC, TEXT_KEY, NcnnNetwork, read_converted, read_ncnn
from srfast.checkpoint.formats.ncnn.text import MAGIC as NCNN_MAGIC
from srfast.checkpoint.formats.onnx.reader import input_channels, read_onnx
from srfast.checkpoint.formats.safetensors import read_safetensors
from srfast.checkpoint.formats.torch import LEGACY_MAGIC, read_torch
from srfast.checkpoint.other import HINT, Adapted, Other, facts, is_installed, read_other
from srfast.checkpoint.recipe import MAX_BLOCKS, Hints, Layout, Recipe
from srfast.checkpoint.registry import (
    BY_MODULE,
    UnknownArchitectureError,
    check_weights,
    detect,
    unwrapped,
    without_counts,
)
from srfast.devices import on_cpu
from srfast.errors import CheckpointError, escaped, quoted

__all__ = ["Hints", "LoadedModel", "load_model", "read_tensors", "save_checkpoint", "shipped_models"]

_log = logging.getLogger("srfast")
WEIGHTS = Path(__file__).parent.parent / "weights"
MAX_BYTES = 2 << 30  # of a file: the largest public networks of this kind have 300 MB
# Of a file that srfast wrote: the module's class and arguments, as JSON.
METADATA = "srfast"


@dataclass(frozen=True)
class LoadedModel:
    """A network with the facts that its file told.

    Attributes:
        module: in eval mode, float32, on the CPU, for RGB images in 0..1.
        architecture: as people call it.
        scale: output pixels per input pixel along one side.
        name: of the file.
        layout: who writes such keys.
        values: what the network itself sees and gives; the module converts.
        arguments: of the module's class.
        file_kind: "safetensors", "PyTorch zip", "PyTorch legacy" or "ONNX".
    """

    module: nn.Module
    architecture: str
    scale: int
    name: str
    layout: str = ""
    values: str = "0..1"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    file_kind: str = ""


def shipped_models() -> dict[str, Path]:
    """Names and files of the models that come with srfast."""
    return {p.stem: p for p in sorted(WEIGHTS.glob("*.safetensors"))}


@on_cpu
def load_model(
    source: str | os.PathLike[str],
    *,
    scale: int | None = None,
    act: str | None = None,
    res_scale: float | None = None,
) -> LoadedModel:
    """Loads a checkpoint into a module in eval mode, float32, on the CPU.

    Args:
        source: path of a .safetensors, .pth, .pt or .ckpt file that holds a state_dict, of an .onnx or .param file; the name of
            a shipped model; or one of a catalogue, ``hf:org/repo/file.pth`` or ``omdb:4x-NAME``, which is downloaded once.
        scale: 3 for networks whose keys are the same for 2 and 3 (one upsampling step by repeated pixels).
        act: "leakyrelu" for an SRVGGNetCompact that has it; its keys are those of one with ReLU.
        res_scale: of EDSR's blocks; by default 0.1 from 256 channels on, else 1, as published.

    Raises:
        CheckpointError: no such file or name, not a checkpoint, not safe to open, or of no architecture that srfast or an
            installed spandrel knows; or it is not of the scale, activation or gain that was given.

    Examples:
        >>> model = load_model("compact_x2")
        >>> model.scale, type(model.module).__name__
        (2, 'SRVGGNetCompact')
    """
    if not isinstance(source, (str, os.PathLike)):
        raise CheckpointError(f"a checkpoint is a file's path or a shipped model's name, not {type(source).__name__}")
    path = _path(source)
    if not path.exists():
        known = ", ".join(shipped_models()) or "none"
        raise CheckpointError(f"no checkpoint file and no shipped model is called {str(source)!r} (shipped: {known})")
    content, metadata, kind = _read(path)
    if isinstance(content, nn.Module):
        if (act, res_scale) != (None, None):
            raise CheckpointError(f"{path}: a graph has its own activations and gains; leave act and res_scale out")
        return (
            _from_ncnn(content, path, scale) if isinstance(content, NcnnNetwork) else _from_graph(content, path, scale)
        )
    try:
        state = without_counts(unwrapped(content, search=METADATA not in metadata))
        check_weights(state)
        layout, recipe = _recipe(state, metadata, Hints(scale, act, res_scale))
        module = _built(recipe)
    except CheckpointError as error:
        other = None if METADATA in metadata else _other(path, content, error)
        if other is None:
            raise CheckpointError(*quoted(error, f"{path}: ")) from error
        if (scale or other.module.scale, act, res_scale) != (other.module.scale, None, None):
            raise CheckpointError(
                f"{path}: {other.architecture} is of scale {other.module.scale}, without hints"
            ) from error
        return LoadedModel(**facts(other), name=path.stem, file_kind=kind)
    found = int(getattr(module, "scale", 1))
    if scale not in (None, found):
        raise CheckpointError(f"{path}: its keys and shapes are those of scale {found}, not {scale}")
    for name, given, own in (("act", act, "act_type"), ("res_scale", res_scale, "res_scale")):
        if given is not None and recipe.arguments.get(own) != given:
            is_own = f"is {recipe.arguments[own]}" if own in recipe.arguments else "does not exist"
            raise CheckpointError(f"{path}: {name} {given} was given, but that of this {layout.architecture} {is_own}")
    # Said and not asked: most files are what the guess takes them for, and a batch must not stop for a question.
    for guess in recipe.guesses:
        _log.warning("%s: %s has the same keys for %s", path, layout.architecture, guess)
    return LoadedModel(
        module, layout.architecture, found, path.stem, layout.origin, layout.values, recipe.arguments, kind
    )


def _path(source: str | os.PathLike[str]) -> Path:
    """The file of a shipped model or of a catalogue's, or the one that is given."""
    if catalogue.is_name(str(source)):
        return catalogue.located(str(source))
    return shipped_models().get(str(source)) or Path(source)


def _other(path: Path, content: Any, error: CheckpointError) -> Other | None:
    """What spandrel makes of a file that srfast does not know.

    Raises:
        CheckpointError: it would be worth a try, or spandrel says why not.
    """
    if not is_installed():
        if isinstance(error, UnknownArchitectureError):
            raise CheckpointError(*quoted(error, f"{path}: ", f"; {HINT}")) from error
        return None
    try:
        state = unwrapped(content, search=False)
    except CheckpointError:
        return None
    try:
        return read_other(state)
    except CheckpointError as other:
        raise CheckpointError(*quoted(other, f"{path}: ")) from error


def read_tensors(source: str | os.PathLike[str]) -> Iterator[tuple[str, Tensor]]:
    """Names, with those of the tables they are in, and tensors of a file, whatever network it is of.

    Raises:
        CheckpointError: it is no checkpoint, or not safe to open.
    """
    content, _, _ = _read(_path(source))
    yield from _flat(content.state_dict() if isinstance(content, nn.Module) else content, "", 0)


def _flat(content: Any, path: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield path, content
    elif isinstance(content, Mapping) and depth < 8:
        for key, value in content.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key), depth + 1)


def _from_ncnn(module: NcnnNetwork, path: Path, scale: int | None) -> LoadedModel:
    """An ncnn network, or one that was converted from it."""
    if scale not in (None, module.scale):
        raise CheckpointError(f"{path} enlarges by {module.scale}, not {scale}")
    values = "0..1, RGB, as far as is known: ncnn files do not tell"
    module.requires_grad_(False).eval()
    return LoadedModel(module, module.architecture, module.scale, path.stem, "ncnn", values, {}, "ncnn")


def _from_graph(module: nn.Module, path: Path, scale: int | None) -> LoadedModel:
    """An ONNX network, whose enlargement only shows when it runs."""
    channels = input_channels(module)
    try:
        with torch.inference_mode():  # on the meta device nothing is computed, and no memory taken
            shape = copy.deepcopy(module).to("meta")(torch.zeros(1, channels, 16, 16, device="meta")).shape
    # Without memory PyTorch 2.11 asserts what it else raises.
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError) as error:
        raise CheckpointError(
            f"{path} cannot run on an image of 16x16: {' '.join(str(error).split())[:200]}"
        ) from error
    found = shape[-1] // 16
    if len(shape) != 4 or found < 1 or tuple(shape[2:]) != (16 * found, 16 * found):
        raise CheckpointError(
            f"{path} makes {list(shape)} of a 16x16 image, expected [N, C, H, W] enlarged by a whole factor"
        )
    if scale not in (None, found):
        raise CheckpointError(f"{path} enlarges by {found}, not {scale}")
    values = "0..1, RGB, as far as is known: ONNX files do not tell"
    return LoadedModel(module.eval(), "ONNX graph", found, path.stem, "ONNX", values, {}, "ONNX")


def _read(path: Path) -> tuple[Any, Mapping[str, str], str]:
    """What the file holds, its metadata, and its kind, told by its first bytes."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path} is a {'folder' if path.is_dir() else 'device or pipe'}, not a file")
        if not 0 < status.st_size <= MAX_BYTES:
            raise CheckpointError(f"{path} has {status.st_size} bytes; a checkpoint has 1 to {MAX_BYTES}")
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    # By content and not by suffix: .pth files hold zip archives, old pickles, and now and then safetensors or a web page.
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return read_torch(path), {}, "PyTorch zip"
    if head.startswith(LEGACY_MAGIC):
        return read_torch(path), {}, "PyTorch legacy"
    if path.suffix in (".param", ".bin") or head.startswith((NCNN_MAGIC.encode(), BINARY_MAGIC)):
        return read_ncnn(path, MAX_BYTES), {}, "ncnn"
    if path.suffix == ".onnx":
        return read_onnx(path), {}, "ONNX"
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        state, metadata = read_safetensors(path)
        if TEXT_KEY in metadata:
            return _converted(path, metadata[TEXT_KEY], state), {}, "ncnn"
        return state, metadata, "safetensors"
    raise CheckpointError(f"{path} is not a PyTorch checkpoint: {_what(head)}")


def _converted(path: Path, text: str, state: dict[str, Tensor]) -> nn.Module:
    try:
        check_weights({key: value for key, value in state.items() if value.dtype != torch.int8})
        return read_converted(text, state)
    except CheckpointError as error:
        raise CheckpointError(*quoted(error, f"{path}: ")) from error


_KINDS = (
    (b"version https://git-lfs", "it is a pointer of Git LFS; fetch the file itself with 'git lfs pull'"),
    (b"\x89HDF", "it is HDF5 (Keras); only PyTorch state_dicts, safetensors and ONNX are read"),
    (b"\x93NUMPY", "it is a NumPy array, which has no layer names"),
    (b"<", "it is a web page or XML; download the file itself"),
    (b"\x1f\x8b", "it is compressed by gzip; unpack it first"),
    (
        b"\x80",
        "it is a bare pickle, which could run code; re-save the weights with torch.save(model.state_dict(), ...)",
    ),
)


def _what(head: bytes) -> str:
    begin = head.lstrip()
    return next((text for magic, text in _KINDS if begin.startswith(magic)), f"it begins with {head[:12]!r}")


def _recipe(state: dict[str, Tensor], metadata: Mapping[str, str], hints: Hints) -> tuple[Layout, Recipe]:
    if METADATA in metadata:
        return _described(state, metadata[METADATA])
    layout = detect(state)
    try:
        return layout, layout.read(state, hints)
    except (CheckpointError, KeyError, IndexError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise CheckpointError(
            *quoted(error, f"it looks like {layout.architecture} ({layout.origin}) but does not fit it: ")
        ) from error


def _described(state: dict[str, Tensor], text: str) -> tuple[Layout, Recipe]:
    """From the metadata of a file that srfast wrote, as distrustful as of any other."""
    try:
        facts = json.loads(text)
        # Only names of this table become classes: the file chooses among known networks and cannot name any other code.
        record, arguments = BY_MODULE[facts["module"]], facts["arguments"]
        known = set(inspect.signature(record.module).parameters)
        if not set(arguments) <= known or not all(map(_modest, arguments.values())):
            raise ValueError(f"arguments {str(arguments)[:120]}")
        blocks = [arguments[key] for key in record.depth if key in arguments]
        if any(value > MAX_BLOCKS for value in blocks) or math.prod(blocks) > len(state):
            raise ValueError(f"{math.prod(blocks)} blocks of {len(state)} tensors, at most {MAX_BLOCKS} in a row")
        architecture, origin, values = (escaped(facts[name])[:120] for name in ("architecture", "layout", "values"))
        layout = Layout(architecture[:60], origin[:60], (), _unread, values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"its metadata is not what srfast writes: {error}") from error
    return layout, Recipe(record.module, arguments, state)


def _unread(state: Any, hints: Hints) -> Recipe:
    raise CheckpointError("this layout comes from metadata")


def _modest(value: Any) -> bool:
    """A value that an argument of a network may have."""
    if isinstance(value, list):
        return len(value) <= 8 and not any(isinstance(v, list) for v in value) and all(map(_modest, value))
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return len(value) <= 32 and value.isprintable()
    return value is None or (isinstance(value, int) and 0 <= value <= 4096)


def _built(recipe: Recipe) -> nn.Module:
    """The module with the weights. It takes no memory before its shapes are known to be those of the file."""
    try:
        # Names and shapes of the module without memory: a file that asks for a huge network is refused before it gets one.
        with torch.device("meta"):
            expected = {
                k: v.shape for k, v in recipe.build().state_dict().items() if not k.endswith("num_batches_tracked")
            }
        missing = [key for key in expected if key not in recipe.state]
        extra = [key for key in recipe.state if key not in expected]
        if missing or extra:
            raise CheckpointError(f"{_some(missing)} missing, {_some(extra)} not expected")
        for key, wanted in expected.items():
            given = recipe.state[key].shape
            if given != wanted and not (len(wanted) == 1 and given.numel() == wanted.numel()):
                raise CheckpointError(f"{key} has the shape {list(given)}, expected {list(wanted)}")
        module = recipe.build().float()  # whatever torch.set_default_dtype says
        state = {k: v.detach().float().reshape(expected[k]) for k, v in recipe.state.items()}
        # Not strict, as counters of batches may be missing; all else was compared above.
        module.load_state_dict(state, strict=False)
    except (
        *(RuntimeError, ValueError, TypeError, KeyError, IndexError),
        *(AttributeError, ZeroDivisionError, OverflowError),
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"it looks like {recipe.module.__name__} but does not fit it: {reason}") from error
    except CheckpointError as error:
        raise CheckpointError(
            *quoted(error, f"it looks like {recipe.module.__name__} but does not fit it: ")
        ) from error
    return module.requires_grad_(False).eval()


def _some(keys: list[str]) -> str:
    return (
        ", ".join(key[:80] for key in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "") or "nothing"
    )


def save_checkpoint(
    module: nn.Module, path: str | Path, dtype: torch.dtype = torch.float32, facts: LoadedModel | None = None
) -> None:
    """Writes the module's state as safetensors; the file appears under its name only when it is whole.

    Args:
        module: one of ``srfast.models``.
        path: the file to write; an existing one is replaced.
        dtype: type that convolution weights are stored in; everything else stays float32.
        facts: what the file that the module came from told; goes into the metadata, for networks whose keys do not tell all.

    Raises:
        OutputError: the path is a folder, or its folder is missing or read-only.
        OSError: the file system refuses the bytes, for instance because it is full; an older file stays as it was.

    Examples:
        >>> import tempfile
        >>> from srfast.models import SRVGGNetCompact
        >>> path = Path(tempfile.mkdtemp()) / "net.safetensors"
        >>> save_checkpoint(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2), path)
        >>> load_model(path).scale
        2
    """
    path = Path(path)
    if isinstance(module, Adapted):
        raise CheckpointError(f"{path}: a network that spandrel reads is not converted; its file is read as it is")
    if isinstance(module, NcnnNetwork):
        halved = {k: v for k, v in module.numbers.items() if k.endswith(".weight") and v.is_floating_point()}
        numbers = module.numbers | {k: v.to(dtype) for k, v in halved.items()}
        _write(path, numbers, {"format": "pt", TEXT_KEY: module.text.decode()})
        return
    state = {}
    for key, value in module.state_dict().items():
        # Biases, slopes and statistics are few, and half precision in them shows more than in weights, whose errors average
        # out.
        wide = value.is_floating_point() and value.ndim != 4
        state[key] = value.detach().to("cpu", torch.float32 if wide else dtype if value.ndim == 4 else value.dtype)
        state[key] = state[key].contiguous()
    metadata = {"format": "pt", "architecture": type(module).__name__}
    arguments = facts.arguments if facts is not None else getattr(module, "arguments", None)
    if arguments is not None:
        told = facts or LoadedModel(module, type(module).__name__, 1, "", "srfast")
        metadata[METADATA] = json.dumps(
            {
                "module": type(module).__name__,
                "arguments": dict(arguments),
                "architecture": told.architecture,
                "layout": told.layout,
                "values": told.values,
            }
        )
    _write(path, state, metadata)


def _write(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with whole_file(path, overwrite=True) as partial:
        partial.write_bytes(safetensors.torch.save(state, metadata))
