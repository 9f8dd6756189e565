// What FFmpeg says in a thread, kept without Python's lock.
//
// PyAV's own way takes the interpreter's lock in whichever thread FFmpeg speaks. PyAV frees a decoder while it holds
// that lock, and FFmpeg then waits for the decoder's threads: if one of them has something to say, both wait for ever.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace {

using Callback = void (*)(void*, int, const char*, va_list);
using Messages = std::vector<std::pair<int, std::string>>;

constexpr int kWarning = 24;  // AV_LOG_WARNING; what is more important has a lower number

thread_local bool keeping = false;
thread_local Messages kept;

void keep(void*, int level, const char* format, va_list arguments) {
    if (!keeping || level > kWarning) return;
    char text[1024];
    std::vsnprintf(text, sizeof text, format, arguments);
    try {
        kept.emplace_back(level, text);
    } catch (...) {  // no memory for a message; C code called this
    }
}

void start(std::uintptr_t set_callback) {
    reinterpret_cast<void (*)(Callback)>(set_callback)(&keep);
    kept.clear();
    keeping = true;
}

// So far. As bytes: the text may quote a file's, which need not be UTF-8.
std::vector<std::pair<int, py::bytes>> said() {
    std::vector<std::pair<int, py::bytes>> found;
    for (const auto& [level, text] : kept) found.emplace_back(level, py::bytes(text));
    return found;
}

void stop() {
    keeping = false;
    kept.clear();
}

}  // namespace

PYBIND11_MODULE(_ffmpeg, m, py::mod_gil_not_used()) {
    m.doc() = "What FFmpeg says in a thread; use srfast.video.messages.";
    m.def("start", &start, py::arg("set_callback"));
    m.def("said", &said);
    m.def("stop", &stop);
}
