"""Everything that a GPU has to show, in one call and a given time: ``python -m benchmarks.gpu [--minutes 9] [--dry-run]``.

Steps run one after another, each in its own process with its own limit: is it right (tests, sanitizers), which kernels are
fast (experiments, tuning), and then the record. What no time is left for is skipped and named; ``--only 'tests|sanitizer'``
takes the steps whose names match, for several runs into one folder. After every step the folder ``--out`` holds what there
is so far: ``record.json``, ``summary.json``, ``log.txt``, ``experiments.json`` and ``configs.json``. It needs PyTorch,
Triton, pytest-benchmark and OpenCV; no network, no PyAV, and no installation (the package is laid out as links under
``build/gpu``).

``--dry-run`` needs no GPU: it runs every step as far as it goes on a CPU, measures nothing that is kept, and fails if a
step does not work.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
LAYOUT = REPOSITORY / "build" / "gpu"
PYTEST = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
GPU_TESTS = ("tests/kernels", "tests/backends", "tests/engine/test_engine.py")
# Of the CUDA kernels' tests: one of each kernel, small.
SANITIZED = "(convolutions or pair or tail or hopper or planes) and not 135 and not 540"
SLOW = "torch.compile"  # minutes for each network: only once everything else is there


@dataclass(frozen=True)
class Step:
    """A command with its limits.

    Attributes:
        name: for the summary.
        command: what to run.
        most: seconds after which it is stopped; what it wrote until then stays.
        least: it is skipped with fewer seconds left.
        dry: what to run instead in a rehearsal; None for the command itself.
    """

    name: str
    command: list[str]
    most: int
    least: int = 20
    dry: list[str] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a step ended: 'ok', 'failed (code)', 'stopped at its limit' or 'skipped: ...'."""

    name: str
    result: str
    seconds: float


def steps(out: Path) -> list[Step]:
    """All steps: first what must be right, then what decides between kernels, then what is recorded."""
    python = sys.executable
    record = ["--record", str(out / "record.json")]
    collect = [*PYTEST, "benchmarks", "--collect-only"]
    tests = [*PYTEST, "-m", "needs_gpu", *GPU_TESTS]
    tune = [python, "-m", "srfast.kernels.tools.tune", "--out", str(out / "configs.json")]
    main = ["benchmarks/test_networks.py", "-k", "(SRResNet or Compact) and cuda-480x270", "--budget", "3"]
    tiny = ["benchmarks/test_networks.py", "-k", "Compact and x4 and cpu-64x64", "--budget", "0.5", "--least", "1"]

    def suite(*arguments: str, without: str = SLOW) -> list[str]:
        return [*PYTEST, *record, *(["--without", without] if without else []), *arguments]

    ceilings = "benchmarks/test_ceilings.py"
    build = [python, "setup.py", "-q", "build_ext", "--inplace"]
    return [
        Step("build the compiled kernels", build, 180, 1, [python, "setup.py", "--version"]),
        Step("GPU tests", [*tests, "--maxfail=20"], 150, 20, [*tests, "--collect-only"]),
        *_sanitizers(),
        *_experiments(out),
        Step("tuning", [*tune, "--seconds", "130"], 150, 60, [*tune, "--dry-run"]),
        Step("ceilings", suite(ceilings), 60, 20, suite(ceilings, "--least", "1")),
        Step("main networks", suite(*main), 120, 20, suite(*tiny, without=f"{SLOW}|OpenVINO|ONNX|ncnn|bf16")),
        Step("networks", suite("benchmarks/test_networks.py", "--budget", "4", "--run", "2"), 180, 20, collect),
        Step("operations", suite("benchmarks/test_operations.py", "--budget", "2"), 120, 20, collect),
        Step("frames", suite("benchmarks/test_frames.py"), 60, 20, collect),
        Step("waterfall", suite("benchmarks/test_waterfall.py"), 60, 20, collect),
        Step("torch.compile", suite(*main, "--run", "3", without=""), 400, 90, collect),
        Step("growth", suite("benchmarks/test_growth.py"), 120, 30, collect),
        Step("video", suite("benchmarks/test_video.py"), 90, 20, collect),
    ]


def _sanitizers() -> list[Step]:
    """The compiled kernels under compute-sanitizer; PyTorch's allocator would hide what lies outside of a tensor."""
    tests = [*PYTEST, "-m", "needs_gpu", "tests/kernels/cuda/test_gpu.py", "-k", SANITIZED]
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer"])
    tool = (
        shutil.which("compute-sanitizer", path=places) or "compute-sanitizer"
    )  # without it the step fails and says so
    limits = {"memcheck": 90, "racecheck": 120}
    common = ["env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", tool, "--error-exitcode", "9"]
    return [
        Step(f"sanitizer: {name}", [*common, "--tool", name, *tests], most, 30, [*tests, "--collect-only"])
        for name, most in limits.items()
    ]


def _experiments(out: Path) -> list[Step]:
    """The experiments on the hardware, where this checkout has them."""
    if not (REPOSITORY / "benchmarks" / "experiments.py").exists():
        return []
    command = [sys.executable, "-m", "benchmarks.experiments", "--out", str(out / "experiments.json")]
    return [Step("experiments", command, 150, 30, [*command, "--dry-run"])]


def lay_out() -> None:
    """The installed form of the package as links, so that nothing has to be installed."""
    package = LAYOUT / "srfast"
    package.mkdir(parents=True, exist_ok=True)
    sources = {path.name: path for path in (REPOSITORY / "srfast").iterdir() if path.name != "__pycache__"}
    sources |= {"kernels": REPOSITORY / "kernels", "training": REPOSITORY / "training", "_csrc": REPOSITORY / "csrc"}
    for name, path in sources.items():
        link = package / name
        if link.is_symlink():
            link.unlink()
        link.symlink_to(path)


def environment(out: Path, dry: bool) -> dict[str, str]:
    """For every step: this checkout first, tuned configurations, no skipping for want of a GPU, no network."""
    path = os.pathsep.join(filter(None, (str(LAYOUT), str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    added = {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1"}
    architecture = "" if dry else _architecture()
    if architecture:
        added["SRFAST_CUDA_ARCHS"] = architecture  # building for all takes many minutes
    if (out / "configs.json").exists():
        added["SRFAST_TRITON_CONFIGS"] = str(out / "configs.json")
    if (out / "cuda_configs.json").exists():  # the experiments leave it
        added["SRFAST_CUDA_CONFIGS"] = str(out / "cuda_configs.json")
    if not dry:
        added["SRFAST_REQUIRE_GPU"] = "1"
    return os.environ | added


def _architecture() -> str:
    """What nvcc calls this GPU: 90a for Hopper, whose kernels need the ``a``."""
    import torch

    if not torch.cuda.is_available():
        return ""
    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}" + ("a" if major == 9 else "")


def perform(step: Step, seconds: float, out: Path, dry: bool) -> Outcome:
    """Runs a step for at most ``seconds``; its output goes to the log."""
    command = step.dry if dry and step.dry is not None else step.command
    started = time.monotonic()
    with open(out / "log.txt", "ab") as log:
        log.write(f"\n=== {step.name}: {' '.join(command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment(out, dry),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(min(step.most, seconds))
            result = "ok" if code == 0 else f"failed ({code})"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # its own session: children go too
            process.wait()
            result = "stopped at its limit"
    return Outcome(step.name, result, round(time.monotonic() - started, 1))


def _earlier(out: Path, without: set[str]) -> list[dict[str, object]]:
    """What an earlier run says of other steps."""
    path = out / "summary.json"
    found = json.loads(path.read_text(encoding="utf-8"))["steps"] if path.exists() else []
    return [step for step in found if step["name"] not in without]


def run(out: Path, minutes: float, dry: bool, only: str = "") -> list[Outcome]:
    """The steps whose names match ``only`` within the budget; the summary is written after each.

    Other steps of an earlier run into the same folder stay in its summary and log.
    """
    out.mkdir(parents=True, exist_ok=True)
    chosen = [step for step in steps(out) if re.search(only, step.name)]
    earlier = _earlier(out, {step.name for step in chosen}) if only else []
    if not only:
        (out / "log.txt").write_bytes(b"")
    lay_out()
    ends = time.monotonic() + 60 * minutes
    outcomes: list[Outcome] = []
    rehearsed: set[str] = set()
    for step in chosen:
        left = ends - time.monotonic()
        again = dry and str(step.dry) in rehearsed
        if left < step.least:
            outcomes.append(Outcome(step.name, f"skipped: {left:.0f} s are left", 0.0))
        elif again:
            outcomes.append(Outcome(step.name, "ok", 0.0))
        else:
            outcomes.append(perform(step, left, out, dry))
        rehearsed.add(str(step.dry))
        summary = {"dry_run": dry, "steps": [*earlier, *(asdict(outcome) for outcome in outcomes)]}
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        print(f"{outcomes[-1].name:40} {outcomes[-1].result:24} {outcomes[-1].seconds:6.1f} s", flush=True)
    return outcomes


def finish(out: Path, dry: bool) -> None:
    """Marks a rehearsal's record as one, and prints the tables of a real one."""
    sys.path[:0] = [str(LAYOUT), str(REPOSITORY)]
    from benchmarks import record, tables

    path = out / "record.json"
    if not path.exists():
        return
    taken = record.load(path)
    if dry:
        path.unlink()
        print("rehearsal: what was measured on the way is discarded")
        return
    taken.notes["summary"] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    record.save(taken, path)
    print(tables.machine_line(taken))
    print("\n".join(tables.comparison(taken, "network", tables.headline(taken))))
    print(tables.ceilings(taken))


def main(arguments: list[str] | None = None) -> int:
    """0 if a rehearsal worked; 0 if a real run left a record; 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="time for everything")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-run")), help="folder to write to")
    parser.add_argument("--only", default="", metavar="REGEX", help="steps whose names match, as 'tests|sanitizer'")
    parser.add_argument("--dry-run", action="store_true", help="rehearse without a GPU")
    options = parser.parse_args(arguments)
    if not options.dry_run:
        import torch

        if not torch.cuda.is_available():
            print("PyTorch sees no GPU here; --dry-run rehearses without one", file=sys.stderr)
            return 1
    out = options.out.resolve()
    outcomes = run(out, options.minutes, options.dry_run, options.only)
    finish(out, options.dry_run)
    if options.dry_run:
        failed = [outcome.name for outcome in outcomes if outcome.result != "ok"]
        if failed:
            print((out / "log.txt").read_text(encoding="utf-8", errors="replace")[-6000:])
            print(f"rehearsal failed in: {', '.join(failed)}", file=sys.stderr)
        return 1 if failed else 0
    return 0 if (out / "record.json").exists() else 1


if __name__ == "__main__":
    sys.exit(main())
