"""Packages and the compiled modules; metadata and tools are in pyproject.toml.

``kernels/`` and ``training/`` lie at the top of the repository and are packages of srfast by the links ``srfast/kernels``
and ``srfast/training``: as top-level names they would collide with other packages. Python, setuptools, mypy and editors
follow the links, so a checkout works as it lies there, installed or not.

Without a C++ compiler the installation goes on without ``srfast._cpu``, without nvcc (CUDA 12.4 or newer) without
``srfast._cuda``; ``srfast info`` then says what is missing. ``SRFAST_BUILD_CUDA=0`` leaves the CUDA kernels out,
``SRFAST_CUDA_ARCHS="80 86 89"`` builds them for these architectures: by default wheels have all, checkouts two.
``SRFAST_BUILD_CPU=0`` leaves the CPU kernels out, for a machine whose GPU is all that matters, ``SRFAST_BUILD_VIDEO=0`` what
hears FFmpeg, whose errors then have no details. ``SRFAST_OLD_RUNTIME=1`` makes them load where the C and C++ libraries are older
than the compiler's, as wheels must (csrc/cpu/old_runtime.cpp).
"""

from __future__ import annotations

import itertools
import os
import platform
import re
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

CPU_SOURCES = Path("csrc/cpu")
VIDEO_SOURCES = [Path("csrc/video/ffmpeg.cpp"), CPU_SOURCES / "old_runtime.cpp"]
FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-fno-math-errno",
    "-fno-trapping-math",  # or no loop with a comparison becomes vectors; values stay the same
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-Wno-maybe-uninitialized",
]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]
# For ``make sanitize``: memory errors and undefined behaviour end the process.
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
SANITIZED = ["-O0", "-g1", "-fno-omit-frame-pointer", *SANITIZERS]
# One source for each instruction set, compiled for it; all others must run on any CPU.
INSTRUCTION_SETS = {
    "avx2.cpp": ["-mavx2", "-mfma"],
    "avx512.cpp": AVX512,
    "vnni.cpp": [*AVX512, "-mavx512vnni"],
    "bf16.cpp": [*AVX512, "-mavx512bf16"],
    "amx.cpp": [*AVX512, "-mamx-tile", "-mamx-bf16", "-mamx-int8"],
}

CUDA_SOURCES = Path("csrc/cuda")
CUDA_OLDEST = (12, 4)
CUDA_FEW = ("80", "90a")  # in a checkout, where a build for all would take minutes at every change
CUDA_ARCHITECTURES = ("80", "86", "89", "90a", "100", "120")
# The compiler's first half runs once for each virtual architecture, its second half for each real one: half as long.
CUDA_VIRTUAL = {"80": ("80", "86", "89"), "90": ("90a", "100", "120")}
HOPPER_SOURCES = "hopper"  # how the names of those begin whose instructions no other architecture has
# Without -fmad=false the compiler contracts a * b + c or not, as the code around it lets it: equal sources, other bits.
NVCC_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-cudart", "static"]


class BuildCompiled(build_ext):
    """Compiles each CPU source with the flags of its instruction set, and the CUDA sources with nvcc."""

    def build_extension(self, ext: Extension) -> None:
        if ext.name == "srfast._cuda":
            self.build_cuda(ext)
        elif ext.name == "srfast._cpu":
            self.build_cpu(ext)
        else:
            ext.extra_compile_args = FLAGS
            ext.define_macros = old_runtime()
            super().build_extension(ext)

    def build_cuda(self, ext: Extension) -> None:
        nvcc = find_nvcc()
        assert nvcc is not None
        archs = cuda_architectures(nvcc, CUDA_FEW if self.inplace or self.editable_mode else CUDA_ARCHITECTURES)
        codes = machine_codes(archs)
        folder = Path(self.build_temp) / "cuda"
        folder.mkdir(parents=True, exist_ok=True)
        includes = [f"-I{path}" for path in ext.include_dirs]

        def compiled(source: str) -> str:
            target = folder / (Path(source).stem + ".o")
            hopper = (
                ["-gencode=arch=compute_90a,code=sm_90a"] if Path(source).stem.startswith(HOPPER_SOURCES) else codes
            )
            kinds = hopper if source.endswith(".cu") else [f'-DSRFAST_ARCHITECTURES="{" ".join(archs)}"', "-x", "cu"]
            self.spawn([nvcc, *NVCC_FLAGS, *kinds, *includes, "-c", source, "-o", str(target)])
            return str(target)

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            objects = list(pool.map(compiled, sorted(ext.sources)))
        library = Path(self.get_ext_fullpath(ext.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        self.spawn([nvcc, *NVCC_FLAGS, "-shared", *objects, "-o", str(library)])

    def build_cpu(self, ext: Extension) -> None:
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        sanitize = os.environ.get("SRFAST_SANITIZE") == "1"
        flags = [*FLAGS, *(SANITIZED if sanitize else [])]
        macros: list[tuple[str, str | None]] = [("SRFAST_X86", None)] if x86 else []
        macros += old_runtime()
        (Path(self.build_temp) / CPU_SOURCES).mkdir(parents=True, exist_ok=True)  # before threads do at the same time

        def compiled(source: str) -> list[str]:
            return self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=macros,
                include_dirs=ext.include_dirs,
                extra_postargs=[*flags, *INSTRUCTION_SETS.get(Path(source).name, [])],
                depends=ext.depends,
            )

        special = [source for source in ext.sources if Path(source).name in INSTRUCTION_SETS]
        portable = sorted(set(ext.sources) - set(special))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # the long ones first
            results = pool.map(compiled, [*(special if x86 else []), *portable])
            objects = sorted(itertools.chain.from_iterable(results))
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            libraries=["pthread"],
            extra_postargs=SANITIZERS if sanitize else [],
            build_temp=self.build_temp,
            target_lang="c++",
        )


def headers_if_wanted(variable: str, what: str) -> list[str]:
    """Folders of pybind11's headers; none, with a line that says why, where ``variable`` is 0 or pybind11 is missing."""
    if os.environ.get(variable) == "0":
        print(f"srfast: {variable}=0, so {what} not built")
        return []
    try:
        import pybind11
    except ImportError:
        print(f"srfast: pybind11 is missing, so {what} not built")
        return []
    return [pybind11.get_include()]


def old_runtime() -> list[tuple[str, str | None]]:
    """The macro of modules that older C and C++ libraries must load."""
    return [("SRFAST_OLD_RUNTIME", None)] if os.environ.get("SRFAST_OLD_RUNTIME") == "1" else []


def find_nvcc() -> str | None:
    """Path of nvcc: that of CUDA_HOME, on PATH, or where CUDA installs itself."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    places = [*(str(Path(home) / "bin") for home in homes), os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    return shutil.which("nvcc", path=os.pathsep.join(places))


def nvcc_version(nvcc: str) -> tuple[int, int]:
    """Of the CUDA toolkit, such as (13, 0)."""
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def cuda_architectures(nvcc: str, wanted: tuple[str, ...]) -> list[str]:
    """What to build for: SRFAST_CUDA_ARCHS, or those of ``wanted`` that this nvcc knows."""
    asked = os.environ.get("SRFAST_CUDA_ARCHS", "").replace(",", " ").replace(";", " ").split()
    strange = sorted(set(asked) - set(CUDA_ARCHITECTURES))
    if strange:
        raise SystemExit(f"SRFAST_CUDA_ARCHS={strange[0]}: the kernels are made for {', '.join(CUDA_ARCHITECTURES)}")
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    return asked or [arch for arch in wanted if f"sm_{arch.rstrip('a')}" in known]


def machine_codes(archs: list[str]) -> list[str]:
    """nvcc's options for these architectures."""
    groups = {virtual: [f"sm_{arch}" for arch in real if arch in archs] for virtual, real in CUDA_VIRTUAL.items()}
    return [f"-gencode=arch=compute_{virtual},code=[{','.join(real)}]" for virtual, real in groups.items() if real]


def cuda_extension() -> list[Extension]:
    """The compiled CUDA module, if nvcc is there to build it."""
    headers = headers_if_wanted("SRFAST_BUILD_CUDA", "the compiled CUDA kernels are")
    if not headers:
        return []
    nvcc = find_nvcc()
    if nvcc is None or nvcc_version(nvcc) < CUDA_OLDEST:
        found = "no nvcc was found" if nvcc is None else f"{nvcc} is older"
        print(f"srfast: the CUDA kernels need nvcc of CUDA 12.4 or newer and {found}, so they are not built")
        return []
    return [
        Extension(
            "srfast._cuda",
            [str(path) for path in sorted(CUDA_SOURCES.glob("*.cu")) + sorted(CUDA_SOURCES.glob("*.cpp"))],
            include_dirs=[*headers, sysconfig.get_path("include")],
            depends=[str(path) for path in sorted([*CUDA_SOURCES.glob("*.h"), *CUDA_SOURCES.glob("*.cuh")])],
            optional=True,
        )
    ]


def cpu_extension() -> list[Extension]:
    """The compiled CPU module, if pybind11 is there to build it."""
    headers = headers_if_wanted("SRFAST_BUILD_CPU", "the compiled CPU kernels are")
    if not headers:
        return []
    return [
        Extension(
            "srfast._cpu",
            [str(path) for path in sorted(CPU_SOURCES.glob("*.cpp"))],
            include_dirs=headers,
            depends=[str(path) for path in sorted(CPU_SOURCES.glob("*.h"))],
            optional=True,  # a failed build is a warning
        )
    ]


def video_extension() -> list[Extension]:
    """The compiled module that hears FFmpeg, if pybind11 is there to build it."""
    headers = headers_if_wanted("SRFAST_BUILD_VIDEO", "the module that hears FFmpeg is")
    if not headers:
        return []
    return [
        Extension(
            "srfast._ffmpeg",
            [str(path) for path in VIDEO_SOURCES],
            include_dirs=headers,
            optional=True,
        )
    ]


setup(
    # The tools of kernel authors compile, read and tune kernels in a checkout; nothing that runs needs them.
    packages=find_packages(include=["srfast", "srfast.*"], exclude=["srfast.kernels.tools"]),
    ext_modules=[*cpu_extension(), *video_extension(), *cuda_extension()],
    cmdclass={"build_ext": BuildCompiled},
)
