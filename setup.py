"""Packages, the folder mapping and the compiled CPU module; metadata and tools are in pyproject.toml.

``kernels/`` and ``training/`` lie at the top of the repository but install as ``srfast.kernels`` and
``srfast.training``: as top-level names they would collide with other packages.

Without a C++ compiler the installation goes on without ``srfast._cpu``; ``srfast.kernels.cpu.unavailable_reason()`` then
says what is missing.
"""

from __future__ import annotations

import platform
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

MAPPED = {"srfast.kernels": "kernels", "srfast.training": "training"}

CPU_SOURCES = Path("csrc/cpu")
FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-Wno-maybe-uninitialized",
]
# One source for each instruction set, compiled for it; all others must run on any CPU.
INSTRUCTION_SETS = {
    "avx2.cpp": ["-mavx2", "-mfma"],
    "avx512.cpp": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
}


class BuildCpu(build_ext):
    """Compiles each source with the flags of its instruction set."""

    def build_extension(self, ext: Extension) -> None:
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        objects = []
        for source in sorted(ext.sources):
            name = Path(source).name
            if name in INSTRUCTION_SETS and not x86:
                continue
            objects += self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=[("SRFAST_X86", None)] if x86 else [],
                include_dirs=ext.include_dirs,
                extra_postargs=[*FLAGS, *INSTRUCTION_SETS.get(name, [])],
                depends=ext.depends,
            )
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            libraries=["pthread"],
            build_temp=self.build_temp,
            target_lang="c++",
        )


def cpu_extension() -> list[Extension]:
    """The compiled CPU module, if pybind11 is there to build it."""
    try:
        import pybind11
    except ImportError:
        print("srfast: pybind11 is missing, so the compiled CPU kernels are not built")
        return []
    return [
        Extension(
            "srfast._cpu",
            [str(path) for path in sorted(CPU_SOURCES.glob("*.cpp"))],
            include_dirs=[pybind11.get_include()],
            depends=[str(path) for path in sorted(CPU_SOURCES.glob("*.h"))],
            optional=True,  # a failed build is a warning
        )
    ]


packages = find_packages(include=["srfast", "srfast.*"])
for name, path in MAPPED.items():
    packages += [name, *(f"{name}.{sub}" for sub in find_packages(path))]

setup(packages=packages, package_dir=MAPPED, ext_modules=cpu_extension(), cmdclass={"build_ext": BuildCpu})
