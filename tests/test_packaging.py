"""The package itself: what ships, and what an import loads. ``lint-imports`` checks the direction of imports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from srfast._version import __version__
from srfast.comfyui import LoadModel
from srfast.errors import MissingDependencyError
from srfast.service.config import SHIPPED
from srfast.video.source import require_av
from tests.helpers import counts

REPOSITORY = Path(__file__).parent.parent


def test_import_is_light() -> None:
    """``import srfast`` loads neither PyTorch nor OpenCV nor PyAV."""
    code = "import sys, srfast; print([m for m in ('torch', 'cv2', 'av', 'triton') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_imports_itself_through_others() -> None:
    """Not for types either, which ``lint-imports`` leaves out."""
    edges = counts.imports(REPOSITORY)
    assert len(edges) > 200
    assert counts.cycles(edges) == 0
    source = edges["srfast.video.source"]
    assert "srfast.errors" in source
    edges["srfast.errors"] = {*edges["srfast.errors"], "srfast.video.source"}
    assert counts.cycles(edges) == 1


def test_engine_runs_without_optional_packages() -> None:
    """No PyAV or Triton: images work, and video names what is missing."""
    code = (
        "import sys\n"
        "for name in ('av', 'triton'): sys.modules[name] = None\n"
        "import numpy as np, srfast\n"
        "print(srfast.load('compact_x4')(np.zeros((4, 5, 3), np.uint8)).shape)\n"
        "try: srfast.upscale_video(sys.argv[1], '/nonexistent-folder/x.mp4')\n"
        "except srfast.SrfastError as error: print(error)\n"
        "from srfast.video.reader import require_av\n"
        "try: require_av()\n"
        "except srfast.SrfastError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, __file__], capture_output=True, text=True, check=True)
    assert "(16, 20, 3)" in done.stdout
    assert "video needs PyAV" in done.stdout


@pytest.mark.parametrize(
    ("version", "refused"), [("17.0.1", True), ("17.1.0", False), ("19.0.2", False), ("20.0.0", True)]
)
def test_versions_of_pyav(monkeypatch: pytest.MonkeyPatch, version: str, refused: bool) -> None:
    """As ``pyproject.toml`` has them: each major version changed what srfast uses, of which no user could make sense."""
    monkeypatch.setattr("av.__version__", version)
    wanted = "av>=17.1,<20"
    assert f'"{wanted}"' in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    if refused:
        with pytest.raises(MissingDependencyError, match=f"not {version}; install it with: pip install '{wanted}'"):
            require_av()
    else:
        assert require_av().__version__ == version


def test_a_bare_checkout_works(tmp_path: Path) -> None:
    """Python started in a checkout that nothing installed finds the folders that lie at the top of the repository."""
    for name in ("kernels", "training"):
        assert (REPOSITORY / "srfast" / name).resolve() == REPOSITORY / name
    code = "import srfast, srfast.kernels.reference, srfast.training.metrics; print(srfast.training.metrics.__file__)"
    command = [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}; {code}"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY, env=environment)
    assert Path(done.stdout.strip()) == REPOSITORY / "srfast" / "training" / "metrics.py"


@pytest.mark.timeout(600)
def test_what_ships(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "-q", "--sdist", "--wheel", "--outdir", str(tmp_path), str(REPOSITORY)]
    environment = {**os.environ, "SRFAST_BUILD_CUDA": "0"}  # its build takes minutes and is checked by the CUDA gate
    # Which files are there does not hang on how they are optimised.
    for name, default in (("CC", "cc"), ("CXX", "c++")):
        wrapper = tmp_path / default
        wrapper.write_text(f'#!/bin/sh\nexec {os.environ.get(name, default)} "$@" -O0\n')
        wrapper.chmod(0o755)
        environment[name] = str(wrapper)
    subprocess.run(command, check=True, capture_output=True, timeout=500, env=environment)
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} <= {
        "srfast",
        next(n for n in names if ".dist-info" in n).split("/")[0],
    }
    wanted = (
        "srfast/py.typed",
        "srfast/_cpu.pyi",
        "srfast/_cuda.pyi",
        "srfast/_ffmpeg.pyi",
        "srfast/kernels/reference.py",
        "srfast/kernels/configs/triton.json",
        "srfast/kernels/configs/cuda.json",
        "srfast/training/train.py",
        "srfast/training/mos.html",
        *(f"srfast/diagnostics/compare/page.{kind}" for kind in ("html", "css", "js")),
        "srfast/comfyui.py",
        "srfast/vapoursynth.py",
        "srfast/weights/srresnet_x4.safetensors",
        "srfast/weights/compact_x4.md",
        "srfast/assets/clip.mp4",
    )
    assert [name for name in wanted if name not in names] == []
    for module in ("_cpu", "_ffmpeg"):
        built = [name for name in names if name.startswith(f"srfast/{module}.") and name.endswith(".so")]
        assert built, f"{module} did not build"
    assert [name for name in names if name.startswith("srfast/kernels/tools/")] == []
    sdist = next(tmp_path.glob("*.tar.gz"))
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    suffixes = (".h", ".cpp", ".cu", ".cuh")
    sources = {str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "csrc").rglob("*.*") if p.suffix in suffixes}
    assert sources - inside == set()


def test_each_module_can_be_left_out(tmp_path: Path) -> None:
    environment = {**os.environ, **dict.fromkeys(("SRFAST_BUILD_CPU", "SRFAST_BUILD_VIDEO", "SRFAST_BUILD_CUDA"), "0")}
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build_ext",
        "-b",
        str(tmp_path / "built"),
        "-t",
        str(tmp_path / "objects"),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    assert "CPU kernels are not built" in done.stdout
    assert "CUDA kernels are not built" in done.stdout
    assert "hears FFmpeg is not built" in done.stdout
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("folder", "module"), [("cpu", "_cpu"), ("video", "_ffmpeg"), ("cuda", "_cuda")])
def test_a_changed_source_builds_its_module_before_the_tests(folder: str, module: str) -> None:
    source = next((REPOSITORY / "csrc" / folder).glob("*.cpp")).relative_to(REPOSITORY)
    others = [other for other in ("cpu", "video", "cuda") if other != folder]
    # -W takes a file as changed now, -o another as too old to matter.
    as_if = ["-W", str(source), *(word for other in others for word in ("-o", f".venv/built-{other}"))]
    for target in ("test", "test-class-amx", "page", "bench"):
        told = subprocess.run(
            ["make", "-n", *as_if, target], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert f"building srfast.{module}," in told.stdout
        assert told.stdout.index("build_ext") < told.stdout.index("pytest")
        assert set(re.findall(r"SRFAST_BUILD_(\w+)=0", told.stdout)) == {other.upper() for other in others}


def test_no_compiler_contracts_sums() -> None:
    """Equal sources give equal bits in every kernel only if a * b + c is never fused, on GPUs as on CPUs."""
    text = (REPOSITORY / "setup.py").read_text()
    assert "-fmad=false" in text.partition("NVCC_FLAGS = ")[2].partition("]")[0]
    assert "-ffp-contract=off" in text.partition("\nFLAGS = ")[2].partition("]")[0]


def test_the_pythons_are_the_same_everywhere() -> None:
    """Those that are told, those that CI tests, and those that get wheels; and the version is that of the citation."""
    told = re.findall(r"Python :: (3\.\d+)", (REPOSITORY / "pyproject.toml").read_text())
    workflow = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text()
    assert re.findall(r'"(3\.\d+)"', workflow) == told
    assert f"for v in {' '.join(told)}; do" in (REPOSITORY / ".ci" / "wheels").read_text()
    assert f"version: {__version__}\n" in (REPOSITORY / "CITATION.cff").read_text()


def test_weights_fit() -> None:
    files = list((REPOSITORY / "srfast" / "weights").glob("*.safetensors"))
    names = {p.stem for p in files}
    assert names == set(SHIPPED)
    assert names == set(LoadModel.INPUT_TYPES()["required"]["name"][0])
    assert sum(p.stat().st_size for p in files) <= 16_000_000
    assert all(p.with_suffix(".md").is_file() for p in files)
