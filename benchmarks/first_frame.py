"""Counts and times the kernels that a network's first frame compiles, for a GPU that need not be there.

    python -m benchmarks.first_frame [--network srresnet] [--arch 90] [--size 480x272] [--threads 1]

Each network is compiled in a process and a cache folder of its own, then again in another process that finds the folder
filled.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time

NETWORKS = ("srresnet", "rrdbnet", "srugan")


def compile_one(network: str, arch: int, size: tuple[int, int], threads: int | None) -> str:
    """Compile what a frame of one network needs; return how many kernels that are and the seconds."""
    import torch

    from srfast.backends.triton.program import TritonExecutable
    from srfast.capture import capture
    from srfast.kernels import launch
    from srfast.kernels.tools.offline import offline
    from srfast.models import SRUGAN, RRDBNet, SRResNet
    from srfast.plan.passes import optimise

    made = {"srresnet": lambda: SRResNet(4), "rrdbnet": lambda: RRDBNet(scale=4), "srugan": lambda: SRUGAN(2)}
    torch.manual_seed(0)
    plan = optimise(capture(made[network]().eval()))  # type: ignore[no-untyped-call]
    if threads is not None:
        launch._threads = lambda: threads
    width, height = size
    executable = TritonExecutable(plan, torch.device("cpu"), torch.float16, graphs=False)
    frames = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    with offline(arch) as compiled:
        start = time.monotonic()
        executable.run_frames(frames, 1.0, 255.0)
        seconds = time.monotonic() - start
    return f"{len({kernel.cubin for kernel in compiled})} kernels, {seconds:.1f} s"


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each network and cache."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--arch", type=int, default=90)
    parser.add_argument("--size", default="480x272")
    parser.add_argument("--threads", type=int, help="how many kernels at once; as a user's run without")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        width, height = map(int, options.size.split("x"))
        print(compile_one(options.network[0], options.arch, (width, height), options.threads))
        return 0
    for network in options.network or NETWORKS:
        with tempfile.TemporaryDirectory() as cache:
            for state in ("cold", "warm"):
                command = [sys.executable, "-m", "benchmarks.first_frame", "--child", "--network", network]
                command += ["--arch", str(options.arch), "--size", options.size]
                command += [] if options.threads is None else ["--threads", str(options.threads)]
                environment = {**os.environ, "TRITON_CACHE_DIR": cache}
                child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
                print(f"{network} sm_{options.arch} {options.size} {state}: {child.stdout.strip()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
