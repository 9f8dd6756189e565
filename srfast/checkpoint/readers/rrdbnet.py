"""RRDBNet (ESRGAN, Real-ESRGAN, BSRGAN, ESRGAN+), as its programs named it over the years."""

from __future__ import annotations

import re

from srfast.checkpoint.recipe import (
    GUESSED_SCALE,
    Architecture,
    Hints,
    Layout,
    Recipe,
    Row,
    Rule,
    StateDict,
    count,
    renamed,
    shape,
)
from srfast.errors import CheckpointError
from srfast.models.rrdbnet import RRDBNet


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
    # Networks that fold pixels first read 4 or 16 times as many channels as they write.
    folded = first[1] / last[0]
    unshuffle = {4: 2, 16: 4}.get(int(folded), 1) if folded == int(folded) else 1
    # One convolution after repeated pixels has the same shape whether they were repeated twice or three times.
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
    return Recipe(RRDBNet, arguments, dict(state), (GUESSED_SCALE,) if either and hints.scale is None else ())


ARCHITECTURES = (
    Architecture(
        RRDBNet,
        depth=("num_block",),
        layouts=(
            Layout(
                "ESRGAN+",
                "nESRGANplus",
                ("model.1.sub.0.RDB1.conv1.0.weight", "model.1.sub.0.RDB1.conv1x1.weight"),
                read_esrgan_old,
            ),
            Layout("RRDBNet", "ESRGAN, first", ("model.1.sub.0.RDB1.conv1.0.weight",), read_esrgan_old),
            Layout("RRDBNet", "ESRGAN, BSRGAN, RealSR", ("RRDB_trunk.0.RDB1.conv1.weight",), read_esrgan_middle),
            Layout(
                "RRDBNet",
                "BasicSR, Real-ESRGAN, mmagic",
                ("body.0.rdb1.conv1.weight", "conv_body.weight"),
                read_rrdb,
            ),
        ),
        rows=(
            Row(
                "RRDBNet (ESRGAN, Real-ESRGAN, BSRGAN), ESRGAN+",
                "ESRGAN, BasicSR, mmagic, nESRGANplus",
                "exact",
                "`--model-scale 3` for one step by repeated pixels",
                "`.pth`, `.safetensors`, ONNX, ncnn",
            ),
        ),
    ),
)
