"""Which architecture a state_dict belongs to, from its keys and shapes alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from srfast.checkpoint.readers import basicsr, modern
from srfast.checkpoint.readers import rrdbnet as rrdb
from srfast.checkpoint.readers import srresnet as residual
from srfast.checkpoint.recipe import Layout, StateDict
from srfast.errors import CheckpointError, printable

# The first that is there is opened, and what is in it again.
WRAPPERS = (
    "params_ema",
    "params",
    "state_dict",
    "model_state_dict",
    "generator_state_dict",
    "model",
    "generator",
    "netG",
    "net",
)
# Of networks that a training program keeps beside others: only these are the generator.
GENERATORS = ("generator_ema.", "generator.", "netG.", "net_g.")
# Left by wrappers of modules.
PREFIXES = ("module.", "_orig_mod.", "net.", "model.")
_DEPTH, _PARTS = 4, 64  # of wrappers and prefixes in one another, and of networks beside each other
_UNSIGNED = "0..1; the result is limited to it"
_TANH = "0..1 in; tanh out, -1..1"
_SIGNED = "-1..1 in; tanh out, -1..1"
_IMAGENET = "ImageNet's mean and deviation in"

# The order matters where the marks of one are among the keys of another: the more special first.
LAYOUTS: tuple[Layout, ...] = (
    Layout("ESRGAN+", "nESRGANplus", ("model.1.sub.0.RDB1.conv1x1.weight",), rrdb.read_esrgan_old),
    Layout("RRDBNet", "ESRGAN, first", ("model.1.sub.0.RDB1.conv1.0.weight",), rrdb.read_esrgan_old),
    Layout("RRDBNet", "ESRGAN, BSRGAN, RealSR", ("RRDB_trunk.0.RDB1.conv1.weight",), rrdb.read_esrgan_middle),
    Layout("RRDBNet", "BasicSR, Real-ESRGAN, mmagic", ("body.0.rdb1.conv1.weight", "conv_body.weight"), rrdb.read_rrdb),
    Layout("MSRResNet", "BasicSR", ("body.0.conv1.weight", "upconv1.weight", "conv_hr.weight"), basicsr.read_msrresnet),
    Layout(
        "MSRResNet",
        "BasicSR before 2020, KAIR",
        ("recon_trunk.0.conv1.weight", "HRconv.weight"),
        basicsr.read_msrresnet,
    ),
    Layout(
        "MSRResNet",
        "mmagic",
        ("trunk_net.0.conv1.weight", "upsample1.upsample_conv.weight"),
        basicsr.read_mmagic_msrresnet,
    ),
    Layout(
        "SRResNet",
        "BasicSR, first, and KAIR",
        ("model.0.weight", "model.1.sub.0.res.0.weight"),
        basicsr.read_old_srresnet,
    ),
    Layout(
        "SPANF3",
        "traiNNer-redux",
        ("block_1.att_conv.weight", "to_pixel.eval_conv.weight", "conv_cat.weight"),
        modern.read_spanf3,
    ),
    Layout(
        "SPAN",
        "SPAN, neosr, traiNNer-redux",
        ("block_1.c1_r.eval_conv.weight", "conv_cat.weight", "conv_2.eval_conv.weight", "upsampler.0.weight"),
        modern.read_span,
        "0..255 less the mean colour of DIV2K; 0..1 where the keys have no_norm",
    ),
    Layout(
        "Real-CUGAN",
        "Real-CUGAN, traiNNer-redux",
        ("unet1.conv1.conv.0.weight", "unet2.conv3.conv.0.weight", "unet2.conv_bottom.weight"),
        modern.read_cugan,
        "0..1; 0.15..0.85 of the models called pro",
    ),
    Layout(
        "RealPLKSR",
        "neosr, traiNNer-redux",
        ("feats.0.weight", "feats.1.channel_mixer.0.weight", "feats.1.lk.conv.weight", "feats.1.refine.weight"),
        modern.read_plksr,
    ),
    Layout(
        "RCAN",
        "RCAN, traiNNer-redux",
        ("body.0.body.0.body.3.conv_du.0.weight", "tail.1.weight"),
        modern.read_rcan,
        "0..255 less the mean colour of DIV2K, or 0..1",
    ),
    Layout(
        "ArtCNN",
        "ArtCNN-PyTorch, traiNNer-redux",
        ("conv0.weight", "res_block.0.conv.0.0.weight", "depth_to_space.upscale.0.weight"),
        modern.read_artcnn,
    ),
    Layout(
        "EDSR",
        "BasicSR",
        ("conv_after_body.weight", "body.0.conv1.weight", "upsample.0.weight"),
        basicsr.read_basicsr_edsr,
        "0..255 less the mean colour of DIV2K",
    ),
    Layout(
        "EDSR",
        "EDSR-PyTorch",
        ("head.0.weight", "body.0.body.0.weight", "tail.0.0.weight"),
        basicsr.read_edsr,
        "0..255 (or as its mean shift says) less the mean colour of DIV2K",
    ),
    Layout("SRVGGNetCompact", "Real-ESRGAN", ("body.0.weight", "body.2.weight", "body.2.bias"), rrdb.read_compact),
    Layout(
        "SRResNet",
        "leftthomas/SRGAN",
        ("block1.0.weight", "block2.conv1.weight", "block2.prelu.weight"),
        residual.read_leftthomas,
        _TANH,
    ),
    Layout(
        "SRResNet",
        "srfast, SRGAN-PyTorch since 2022-10",
        ("conv1.0.weight", "trunk.0.rcb.0.weight", "upsampling.0.upsample_block.0.weight", "conv3.weight"),
        rrdb.read_srresnet,
        _UNSIGNED,
    ),
    Layout(
        "SRResNet",
        "SRGAN-PyTorch 2022",
        ("conv_block1.0.weight", "trunk.0.rcb.0.weight"),
        residual.read_lornatang,
        _UNSIGNED,
    ),
    Layout(
        "SRResNet",
        "SRGAN-PyTorch 2021-09",
        ("conv_block1.0.weight", "trunk.0.rc_block.0.weight"),
        residual.read_lornatang,
        "0..1; the result is limited to it, by tanh where the key is conv_block3.0",
    ),
    Layout(
        "SRResNet",
        "SRGAN-PyTorch 2021-08",
        ("conv_block1.0.weight", "residual_blocks.0.conv_block.0.weight"),
        residual.read_lornatang,
        _UNSIGNED,
    ),
    Layout(
        "SRResNet",
        "sgrvinod's tutorial",
        ("conv_block1.conv_block.0.weight", "residual_blocks.0.conv_block1.conv_block.0.weight"),
        residual.read_sgrvinod,
        f"{_IMAGENET}; tanh out, -1..1",
    ),
    Layout(
        "SRResNet",
        "twtygqyy/pytorch-SRResNet",
        ("conv_input.weight", "residual.0.conv1.weight", "conv_output.weight"),
        residual.read_twtygqyy,
    ),
    Layout(
        "SRResNet",
        "aitorzip/PyTorch-SRGAN",
        ("conv1.weight", "residual_block1.conv1.weight", "upsample1.conv.weight"),
        residual.read_aitorzip,
        f"{_IMAGENET} and out",
    ),
    Layout(
        "SRResNet",
        "dongheehand/SRGAN-PyTorch",
        ("conv01.body.0.weight", "body.0.body.0.body.0.weight", "last_conv.body.0.weight"),
        residual.read_dongheehand,
        _SIGNED,
    ),
    Layout(
        "Fast-SRGAN",
        "HasnainRaz/Fast-SRGAN",
        ("neck.0.weight", "stem.0.conv1.weight", "upsampling.0.conv.weight"),
        residual.read_fast_srgan,
        _SIGNED,
    ),
    Layout(
        "Swift-SRGAN",
        "Koushik0901/Swift-SRGAN",
        ("initial.cnn.depthwise.weight", "final_conv.pointwise.weight"),
        residual.read_swift,
        _TANH,
    ),
    Layout("SR-UGAN", "srfast", ("down1.conv1.weight", "bottom.conv1.weight", "tail.weight"), rrdb.read_ugan),
    Layout("ResidualSR", "srfast", ("head.weight", "blocks.0.conv1.weight", "tail.weight"), residual.read_own),
)


def unwrapped(content: Any, search: bool = True) -> dict[str, Tensor]:
    """The generator's tensors, out of wrappers and without prefixes: by the names that programs use, else any one.

    Args:
        content: of the file.
        search: False leaves it at the names that programs use, for files that tell their network themselves.

    Raises:
        CheckpointError: there are none, or several networks and nothing tells which is the one.
    """
    problem, state = None, {}
    try:
        state = _by_known_names(content)
        if not search or _layout(state) is not None:
            return state
    except CheckpointError as error:
        problem = error
    found = list(_networks(content, "", 0))
    best = [pair for pair in found if "ema" in pair[0].lower()] or found
    if len(best) > 1:
        names = ", ".join(printable(name, 30) for name, _ in best[:3])
        raise CheckpointError(f"it holds {len(best)} networks, {names}; save the one to use in a file of its own")
    if best:
        return best[0][1]
    if problem is not None:
        raise problem
    return state


def _networks(content: Any, path: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Networks of known layouts inside wrappers or behind prefixes, with where they are."""
    if depth > _DEPTH or not isinstance(content, Mapping):
        return
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    tensors = {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
    if _layout(tensors) is not None and _takes_images(tensors):
        yield path, tensors
        return
    parts: dict[str, dict[str, Any]] = {}
    for key, value in content.items():
        first, dot, rest = str(key).partition(".")
        if isinstance(value, Mapping):
            parts[str(key)] = dict(value)
        elif dot and isinstance(value, Tensor):
            parts.setdefault(first, {})[rest] = value
    if len(parts) <= _PARTS:
        for name, part in parts.items():
            yield from _networks(part, f"{path}.{name}" if path else name, depth + 1)


def _takes_images(state: StateDict) -> bool:
    """Whether the first convolution reads colour planes, perhaps unshuffled: parts of larger networks have familiar keys too."""
    first = next((value for value in state.values() if value.ndim == 4), None)
    return first is not None and first.shape[1] in (1, 3, 4, 12, 16, 48)


def _layout(state: StateDict) -> Layout | None:
    return next((layout for layout in LAYOUTS if all(mark in state for mark in layout.marks)), None)


def _by_known_names(content: Any) -> dict[str, Tensor]:
    for _ in range(4):
        inner = next(
            (content[w] for w in WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(w), Mapping)), None
        )
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise CheckpointError(f"it holds a {type(content).__name__}, not a state_dict of tensors")
    state = _distinct((str(key), value) for key, value in content.items() if isinstance(value, Tensor))
    for _ in range(8):
        shorter = _without_prefix(state)
        if shorter is None:
            break
        state = shorter
    weights = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    if not weights:
        raise CheckpointError("it holds no tensors, so it is not a checkpoint of a network")
    return weights


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    for prefix in GENERATORS:
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if own:
            return own
    if any("_orig_mod." in key for key in state):
        return _distinct((key.replace("_orig_mod.", ""), value) for key, value in state.items())
    for prefix in PREFIXES:
        # "model.0" and the like are layers, not a wrapper.
        if all(key.startswith(prefix) and not key[len(prefix) :][:1].isdigit() for key in state):
            return {key.removeprefix(prefix): value for key, value in state.items()}
    return None


def _distinct(pairs: Any) -> dict[str, Tensor]:
    pairs = list(pairs)
    state = dict(pairs)
    if len(state) != len(pairs):
        raise CheckpointError("two of its tensors have the same name, but for '_orig_mod.' or as a number and as text")
    return state


def detect(state: StateDict) -> Layout:
    """The first layout whose marks are all there.

    Raises:
        CheckpointError: there is none; says which is the nearest and what that lacks.
    """
    layout = _layout(state)
    if layout is not None:
        return layout
    nearest = max(LAYOUTS, key=lambda layout: _likeness(layout, state))
    found = ", ".join(printable(key, 40) for key in list(state)[:2])
    missing = ", ".join(mark for mark in nearest.marks if mark not in state)
    raise CheckpointError(
        f"it is of no known architecture: {len(state)} tensors from {found} on; nearest is {nearest.architecture} "
        f"({nearest.origin}), without {missing}; 'srfast inspect --keys FILE' lists all"
    )


def _likeness(layout: Layout, state: StateDict) -> float:
    """0 to 1: how near the most similar key comes to each mark, on average."""
    keys = [key[:60] for key in list(state)[:30]]
    best = [
        1.0 if mark in state else max(difflib.SequenceMatcher(None, mark, key).quick_ratio() for key in keys)
        for mark in layout.marks
    ]
    return sum(best) / len(best)


def check_weights(state: StateDict) -> None:
    """Floating-point numbers, all finite, also in float32, as they are used.

    Raises:
        CheckpointError: names the tensors that are not.
    """
    allowed = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    odd = [key for key in state if not key.isprintable()]
    if odd:
        raise CheckpointError(f"a tensor is called {printable(odd[0])}, as no network calls one")
    for key, value in state.items():
        if value.dtype not in allowed or value.is_sparse or value.is_quantized:
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{key[:80]} holds {kind}, but weights are float64, float32, float16 or bfloat16")
    counts = {key: int((~torch.isfinite(value.float())).sum()) for key, value in state.items()}
    broken = {key: number for key, number in counts.items() if number}
    if broken:
        first = ", ".join(f"{number} in {key[:60]}" for key, number in list(broken.items())[:3])
        raise CheckpointError(
            f"{len(broken)} of its {len(state)} tensors have NaN or infinite values ({first}); it cannot give an image"
        )
