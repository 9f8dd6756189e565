"""Layouts of RRDBNet (ESRGAN, Real-ESRGAN, BSRGAN), SRVGGNetCompact, SRResNet and SR-UGAN with their own keys."""

from __future__ import annotations

import re

from torch import Tensor

from srfast.checkpoint.recipe import (
    GUESSED_ACT,
    GUESSED_SCALE,
    Hints,
    Recipe,
    Rule,
    StateDict,
    count,
    renamed,
    shape,
    side,
)
from srfast.errors import CheckpointError


def read_esrgan_old(state: StateDict, hints: Hints) -> Recipe:
    """``model.0``, ``model.1.sub.N.RDBM.convK.0``, ``model.1.sub.NB``, then every third ``model.N``."""
    blocks = count(state, "model.1.sub.{}.RDB1.conv1.0.weight")
    # After the trunk come the upsampling convolutions, one more, and the last; indices between them are activations.
    numbers = (re.fullmatch(r"model\.(\d+)\.weight", key) for key in state)
    after = sorted(int(match[1]) for match in numbers if match and int(match[1]) > 1)
    names = [*(f"conv_up{i + 1}" for i in range(len(after) - 2)), "conv_hr", "conv_last"]
    rules: list[Rule] = [
        (r"model\.0\.", "conv_first."),
        (r"model\.1\.sub\.(\d+)\.RDB(\d)\.(conv\d)\.0\.", r"body.\1.rdb\2.\3."),
        (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv1x1\.", r"body.\1.rdb\2.conv1x1."),
        (rf"model\.1\.sub\.{blocks}\.", "conv_body."),
        *((rf"model\.{number}\.", f"{name}.") for number, name in zip(after, names, strict=False)),
    ]
    return read_rrdb(renamed(state, rules), hints)


def read_esrgan_middle(state: StateDict, hints: Hints) -> Recipe:
    """``RRDB_trunk.N.RDBM.convK``, ``trunk_conv``, ``upconvN``, ``HRconv``."""
    rules: list[Rule] = [
        (r"RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
        (r"trunk_conv\.", "conv_body."),
        (r"upconv(\d)\.", r"conv_up\1."),
        (r"HRconv\.", "conv_hr."),
    ]
    return read_rrdb(renamed(state, rules), hints)


def read_rrdb(state: StateDict, hints: Hints) -> Recipe:
    """The keys of BasicSR, which are those of the module."""
    first, last = shape(state, "conv_first.weight"), shape(state, "conv_last.weight")
    ups = max((int(m[1]) for key in state if (m := re.fullmatch(r"conv_up(\d)\.weight", key))), default=0)
    enlarge = 2**ups
    folded = first[1] / last[0]
    unshuffle = {4: 2, 16: 4}.get(int(folded), 1) if folded == int(folded) else 1
    either = ups == 1 and unshuffle == 1
    if hints.scale == 3 and either:
        enlarge = 3
    if enlarge % unshuffle:
        raise CheckpointError(f"it folds {unshuffle}x{unshuffle} pixels and enlarges by {enlarge} only")
    arguments = {
        "num_in_ch": first[1] // unshuffle**2,
        "num_out_ch": last[0],
        "scale": enlarge // unshuffle,
        "num_feat": first[0],
        "num_block": count(state, "body.{}.rdb1.conv1.weight"),
        "num_grow_ch": shape(state, "body.0.rdb1.conv1.weight")[0],
        "unshuffle": unshuffle,
        "plus": "body.0.rdb1.conv1x1.weight" in state,
    }
    return Recipe("RRDBNet", arguments, dict(state), (GUESSED_SCALE,) if either and hints.scale is None else ())


def read_compact(state: StateDict, hints: Hints) -> Recipe:
    """``body.N``: convolutions at even N, slopes of PReLU at odd N where there are any."""
    numbers = (re.fullmatch(r"body\.(\d{1,4})\.weight", key) for key in state)
    convs = sorted(int(m[1]) for m in numbers if m and state[m[0]].ndim == 4)
    if convs != list(range(0, 2 * len(convs), 2)) or len(convs) > 256:
        raise CheckpointError(f"its convolutions are body.{', body.'.join(map(str, convs[:8]))}, not every second one")
    first, last = shape(state, "body.0.weight"), shape(state, f"body.{convs[-1]}.weight")
    upscale = side(f"body.{convs[-1]}", last[0] / first[1])
    slopes = "body.1.weight" in state
    arguments = {
        "num_in_ch": first[1],
        "num_out_ch": first[1],
        "num_feat": first[0],
        "num_conv": len(convs) - 2,
        "upscale": upscale,
        "act_type": "prelu" if slopes else hints.act or "relu",
    }
    return Recipe("SRVGGNetCompact", arguments, dict(state), () if slopes or hints.act else (GUESSED_ACT,))


def read_srresnet(state: StateDict, hints: Hints) -> Recipe:
    """The SRResNet that srfast trains: the keys of SRGAN-PyTorch since 2022-10."""
    first, last = shape(state, "conv1.0.weight"), shape(state, "conv3.weight")
    arguments = {
        "scale": 2 ** count(state, "upsampling.{}.upsample_block.0.weight"),
        "in_channels": first[1],
        "out_channels": last[0],
        "channels": first[0],
        "num_blocks": count(state, "trunk.{}.rcb.0.weight"),
    }
    return Recipe("SRResNet", arguments, dict(state))


def read_ugan(state: StateDict, hints: Hints) -> Recipe:
    """The module's own keys."""
    first, tail = shape(state, "down1.conv1.weight"), shape(state, "tail.weight")
    own: dict[str, Tensor] = dict(state)
    arguments = {
        "scale": 2 * 2 ** count(state, "enlarge.{}.conv.weight"),
        "in_channels": first[1],
        "out_channels": tail[0] // 4,
        "channels": first[0],
        "growth": shape(state, "blocks.0.conv1.weight")[0],
        "blocks": count(state, "blocks.{}.conv1.weight"),
        "channel_attention": "down1.channel_gate.squeeze.weight" in state,
    }
    return Recipe("SRUGAN", arguments, own)
