"""Says what machine this is and begins a record of it: the first step.

python -m benchmarks.gpu.start OUT/record.json
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import record

QUESTIONS = (
    ("nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.limit,memory.total", "--format=csv"),
    ("nvcc", "--version"),
    ("ncu", "--version"),
    ("compute-sanitizer", "--version"),
)


def answers() -> dict[str, str]:
    """Asks the tools what they are; gives their answers by their names."""
    found = {}
    for command in QUESTIONS:
        tool = shutil.which(command[0])
        if tool is None:
            found[command[0]] = "not on PATH"
            continue
        try:
            done = subprocess.run([tool, *command[1:]], capture_output=True, text=True, timeout=10)
            found[command[0]] = (done.stdout or done.stderr).strip()[-600:]
        except (OSError, subprocess.SubprocessError) as error:
            found[command[0]] = str(error)
    return found


def main(path: Path) -> None:
    """Adds to the record of this machine, or puts an empty one in the place of another machine's."""
    tools = answers()
    for name, answer in tools.items():
        print(f"{name}: {answer}", flush=True)
    try:
        taken = record.open_record(path)
    except record.RecordError as error:
        print(f"the record begins anew: {error}")
        path.replace(path.with_suffix(".earlier"))
        taken = record.new()
    taken.notes["tools"] = tools
    record.save(taken, path)
    print(taken.machine, taken.versions)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
