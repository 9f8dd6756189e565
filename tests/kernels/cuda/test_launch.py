"""How the host launches: csrc/cuda/launch.h over a CUDA that only counts, and what the module keeps between launches."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]

# The part of CUDA's interface that launch.h uses: a kernel's limit of shared memory, looked at when it is launched.
CUDA = r"""
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
using cudaError_t = int;
using cudaStream_t = void*;
constexpr int cudaSuccess = 0, cudaFuncAttributeMaxDynamicSharedMemorySize = 0;
constexpr int cudaDevAttrMaxSharedMemoryPerBlockOptin = 0, cudaDevAttrMultiProcessorCount = 1;
constexpr int cudaLaunchAttributeProgrammaticStreamSerialization = 0, cudaLaunchAttributeCooperative = 1;
struct dim3 { unsigned x = 1; explicit dim3(unsigned n = 1) : x(n) {} };
struct cudaFuncAttributes { std::size_t sharedSizeBytes; };
struct cudaLaunchAttribute { int id; struct { int programmaticStreamSerializationAllowed, cooperative; } val; };
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute* attrs;
    unsigned numAttrs;
};
inline thread_local int current = 0;
inline std::mutex driver;
inline std::map<std::pair<const void*, int>, int> limits;
inline int sets = 0;
inline std::atomic<int> refused{0}, launched{0}, together{0};
inline const char* cudaGetErrorString(int) { return "refused"; }
inline int cudaGetDevice(int* device) { *device = current; return 0; }
inline int cudaSetDevice(int device) { current = device; return 0; }
inline int cudaDeviceGetAttribute(int* value, int attribute, int device) {
    *value = attribute == cudaDevAttrMultiProcessorCount ? 132 : device ? 100000 : 232448;
    return 0;
}
template <class F>
int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, F*, int, std::size_t shared) {
    *blocks = static_cast<int>(232448 / shared);
    return 0;
}
inline int cudaFuncGetAttributes(cudaFuncAttributes* found, const void*) { found->sharedSizeBytes = 448; return 0; }
template <class F>
int cudaFuncSetAttribute(F* kernel, int, int value) {
    const std::lock_guard<std::mutex> lock(driver);
    ++sets;
    if (value + 448 > (current ? 100000 : 232448)) return 1;
    limits[{reinterpret_cast<const void*>(kernel), current}] = value;
    return 0;
}
template <class... P>
int cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), const P&...) {
    const std::lock_guard<std::mutex> lock(driver);
    const bool fits = static_cast<int>(config->dynamicSmemBytes) <= limits[{reinterpret_cast<const void*>(kernel), current}];
    ++(fits ? launched : refused);
    for (unsigned i = 0; i < config->numAttrs; ++i)
        together += config->attrs[i].id == cudaLaunchAttributeCooperative && config->attrs[i].val.cooperative;
    return fits ? 0 : 1;
}
"""

PROGRAM = r"""
#include "launch.h"
#include <cstdio>
#include <thread>
#include <vector>
void one(int) {}
void other(int) {}
int main() {
    using namespace srfast;
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([t] {
            for (int i = 0; i < 2000; ++i) {
                const int shared = (t + i) % 3 ? 60000 : 99000;
                try {
                    launch(i % 2 ? one : other, 1, 128, shared, Stream{t % 2, 0, false}, i);
                } catch (const std::runtime_error&) {  // counted as refused
                }
            }
        });
    for (auto& thread : threads) thread.join();
    std::printf("%d %d %d\n", launched.load(), refused.load(), sets);
    for (int device : {1, 0}) {
        try {
            launch(one, 1, 128, device ? 200000 : 232000, Stream{device, 0, false}, 0);
            std::printf("fits\n");
        } catch (const std::exception& error) {
            std::printf("%s\n", error.what());
        }
    }
    const Stream small{1, 0, false}, large{0, 0, false};
    std::printf("%d %d %d\n", resident_blocks(one, 128, 200000, small), resident_blocks(one, 128, 232300, large),
                resident_blocks(one, 128, 100000, large));
    launch_together(one, 264, 128, 100000, large, 0);
    std::printf("%d\n", together.load());
}
"""


def test_the_limit_of_shared_memory_is_set_once_for_all_threads(tmp_path: Path) -> None:
    """Two kernels of one signature on two GPUs in eight threads, large and small: no launch is refused."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.fail("the test needs a C++ compiler (g++ or clang++)")
    (tmp_path / "cuda_runtime.h").write_text(CUDA)
    (tmp_path / "program.cpp").write_text(PROGRAM)
    program = tmp_path / "program"
    command = [compiler, "-std=c++17", "-O1", "-pthread", f"-I{tmp_path}", f"-I{REPOSITORY / 'csrc' / 'cuda'}"]
    built = subprocess.run(
        [*command, str(tmp_path / "program.cpp"), "-o", str(program)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    lines = subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert lines[0] == "16000 0 4", "launched, refused, times that a limit was set"
    assert lines[1] == "the kernel needs 200000 bytes of shared memory for a block, this GPU has 99552"
    assert lines[2] == "fits"
    assert lines[3] == "0 0 264", (
        "blocks that are there at once: none where one does not fit beside what the kernel has anyhow, else two on each "
        "multiprocessor"
    )
    assert lines[4] == "1", "launches of blocks that wait for each other"


def test_launches_from_two_threads_share_nothing_that_is_written() -> None:
    """``run`` lets go of the interpreter: every one is const, so that the compiler refuses to change what was prepared."""
    text = (REPOSITORY / "csrc" / "cuda" / "module.cpp").read_text()
    runs = re.findall(r"int run\([^)]*\)(.*?)\{", text)
    classes = re.findall(r"^class \w+Launch \{", text, re.MULTILINE)
    assert len(runs) == len(classes) >= 5
    assert {run.strip() for run in runs} == {"const"}
    assert "mutable" not in text and "const_cast" not in text
