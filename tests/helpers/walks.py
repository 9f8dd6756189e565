"""Follows a value through the source: the functions that it passes through, and in how many files they stand.

    python -m tests.helpers.walks [--list] [CHECKOUT ...]

prints a table with a column for each checkout (this one by default); ``--list`` names the functions in the order in which the
value first came to them. A walk runs in a process of its own, with what lies in that checkout. A function is a hop when it is
given the value, or something that holds it (a list, a dictionary, a module or an object of srfast, three deep), and hands it on:
to a function that it calls, or to its caller. Functions that only look at it, and those that run without it, are none, however
many a feature has. The value changes its form on the way, so it is known by its size: the frame by its 192x144 pixels, the
weight by its 15,552 (or 2,304) elements, both by the name of the file they come from before they are read.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("srfast", "kernels", "training")
DEPTH = 3  # a weight in a node in the list of nodes of a plan
LOOKS = 24  # at calls of one function before it counts as one that the value never comes to


def _frame() -> tuple[Callable[[Any], bool], Callable[[], object]]:
    import av

    import srfast
    from srfast.cli import main

    clip = os.path.join(os.path.dirname(srfast.__file__), "assets", "clip.mp4")
    out = os.path.join(tempfile.mkdtemp(), "out.mkv")
    pixels = 192 * 144
    options = ["upscale", clip, out, "-m", "compact_x2", "--device", "cpu", "--frames", "2"]

    def holds(value: Any) -> bool:
        elements = _elements(value)
        # Luma and chroma of 4:2:0 are one and a half times the pixels.
        return isinstance(value, av.VideoFrame) or (elements >= pixels and elements % (pixels // 2) == 0)

    return _or_named(holds, clip), lambda: main(options)


def _weight() -> tuple[Callable[[Any], bool], Callable[[], object]]:
    import srfast

    path = os.path.join(os.path.dirname(srfast.__file__), "weights", "srresnet_x4.safetensors")
    # 64 filters of 9x9x3.
    known = _or_named(lambda value: _elements(value) == 15552, path)
    return known, lambda: srfast.Upscaler(path, device="cpu", dtype="fp32")


def _module() -> tuple[Callable[[Any], bool], Callable[[], object]]:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    import torch

    from srfast.capture import capture
    from srfast.models import SRVGGNetCompact

    try:
        from srfast.backends.triton.program import TritonExecutable
    except ImportError:  # where it stood before
        from srfast.backends.triton import TritonExecutable  # type: ignore[no-redef,attr-defined]
    try:
        from srfast.plan.passes import optimise
    except ImportError:  # where it stood before there was a folder
        from srfast.passes import optimise  # type: ignore[import-not-found,no-redef]

    module = SRVGGNetCompact(num_feat=16, num_conv=1, upscale=2).eval()
    x = torch.rand(1, 3, 5, 7).half().contiguous(memory_format=torch.channels_last)

    def walk() -> object:
        plan = optimise(capture(module))
        return TritonExecutable(plan, torch.device("cpu"), torch.float16, graphs=False)(x)

    # 16 filters of 3x3x16.
    return lambda value: _elements(value) == 2304, walk


WALKS = {
    "a frame, from the command line to a file": _frame,
    "a weight, from a checkpoint to a packed buffer": _weight,
    "a module, to a launched Triton kernel": _module,
}


def _elements(value: Any) -> int:
    kind = type(value).__name__  # by name, as this is asked of everything
    return value.size if kind == "ndarray" else value.numel() if kind in ("Tensor", "Parameter") else 0


def _or_named(holds: Callable[[Any], bool], path: str) -> Callable[[Any], bool]:
    return lambda value: holds(value) or (isinstance(value, (str, os.PathLike)) and os.fspath(value) == path)


class Follower:
    """Notes the functions below ``root`` that are given a value, or something that holds it, and hand it on."""

    def __init__(self, root: Path, holds: Callable[[Any], bool]) -> None:
        self._met: dict[tuple[str, str], bool] = {}  # in order; whether it hands the value on
        self._root, self._holds = root.resolve(), holds
        self._places: dict[CodeType, str | None] = {}
        self._looks: dict[tuple[CodeType, str], int] = {}

    @property
    def hops(self) -> list[tuple[str, str]]:
        """Files and names of the functions, as the value came to them."""
        return [key for key, hands_on in self._met.items() if hands_on]

    def __call__(self, frame: FrameType, event: str, result: Any) -> None:
        if event not in ("call", "return") or (key := self._key(frame.f_code)) is None:
            return
        looks = self._looks.get((frame.f_code, event), 0)
        if looks >= LOOKS:
            return
        self._looks[frame.f_code, event] = looks + 1
        if event == "call":
            count = frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount
            values = [frame.f_locals.get(name) for name in frame.f_code.co_varnames[:count]]
        else:
            values = [result]
        if not any(self._within(value, DEPTH) for value in values):
            return
        self._met[key] = self._met.get(key, False) or event == "return"
        caller = frame.f_back
        while event == "call" and caller is not None:
            # What PyTorch or a comprehension calls in between is none of ours.
            if (before := self._key(caller.f_code)) is not None:
                if before in self._met:
                    self._met[before] = True
                break
            caller = caller.f_back

    def _key(self, code: CodeType) -> tuple[str, str] | None:
        if code not in self._places:
            self._places[code] = self._place(code)
        place = self._places[code]
        return None if place is None else (place, getattr(code, "co_qualname", code.co_name))

    def _place(self, code: CodeType) -> str | None:
        path = Path(os.path.realpath(code.co_filename))
        if not any(path.is_relative_to(self._root / part) for part in PARTS) or code.co_name.startswith("<"):
            return None
        return str(path.relative_to(self._root))

    def _within(self, value: Any, depth: int) -> bool:
        if self._holds(value):
            return True
        return depth > 0 and any(self._within(part, depth - 1) for part in _parts(value))


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
    elif type(value).__module__.split(".")[0] in ("srfast", "argparse"):
        yield from vars(value).values() if hasattr(value, "__dict__") else ()
        if "_parameters" in getattr(value, "__dict__", {}):  # a module, and not one that is only half made
            yield from value.parameters()


def followed(root: Path, walk: str) -> list[tuple[str, str]] | None:
    """The functions that the value of a walk passes through, as (file, name); None where the checkout cannot walk."""
    environment = os.environ | {"PYTHONPATH": str(root), "SRFAST_CPU": "avx2"}
    command = [sys.executable, str(Path(__file__).resolve()), "--walk", walk, str(root)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    return [(file, name) for file, name in json.loads(done.stdout.splitlines()[-1])] if done.returncode == 0 else None


def passed(met: list[tuple[str, str]] | None) -> str:
    """Number of functions and of files on a walk; a dash where it failed."""
    return "-" if met is None else f"{len(met)} in {len({file for file, _ in met})}"


def _follow(root: Path, walk: str) -> None:
    holds, run = WALKS[walk]()
    follower = Follower(root, holds)
    threading.setprofile(follower)
    sys.setprofile(follower)
    try:
        status = run()
    finally:
        sys.setprofile(None)
    if isinstance(status, int) and status:
        sys.exit(status)
    print(json.dumps(follower.hops))


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[ROOT])
    parser.add_argument("--list", action="store_true", help="names the functions")
    parser.add_argument("--walk", choices=WALKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    roots = [path.resolve() for path in arguments.checkouts]
    if arguments.walk:
        _follow(roots[0], arguments.walk)
        return 0
    found = {walk: [followed(root, walk) for root in roots] for walk in WALKS}
    print("| functions in files on the walk of | " + " | ".join(root.name for root in roots) + " |")
    print("|---" * (len(roots) + 1) + "|")
    for walk, columns in found.items():
        print(f"| {walk} | " + " | ".join(map(passed, columns)) + " |")
    for walk, columns in found.items() if arguments.list else ():
        for root, met in zip(roots, columns, strict=True):
            print(f"\n{walk}, in {root.name}:")
            print("\n".join(f"  {file}: {name}" for file, name in met or []))
    return 0


if __name__ == "__main__":
    sys.exit(main())
