#include "caches.h"

#include <fstream>
#include <string>

#if defined(SRFAST_X86)
#include <cpuid.h>
#endif

namespace srfast {
namespace {

// Adds a cache that holds data.
void add(Caches& found, int level, std::size_t bytes) {
    if (level == 2) found.second = bytes;
    if (level >= 2 && bytes > found.last) found.last = bytes;
}

Caches from_linux() {
    Caches found;
    for (int index = 0; index < 16; ++index) {
        const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
        std::ifstream level_file(folder + "level"), type_file(folder + "type"), size_file(folder + "size");
        int level = 0;
        std::string type;
        std::size_t size = 0;
        char unit = 0;
        if (!(level_file >> level) || !(type_file >> type) || !(size_file >> size)) continue;
        size_file >> unit;
        if (type != "Instruction") add(found, level, unit == 'K' ? size << 10 : unit == 'M' ? size << 20 : size);
    }
    return found;
}

Caches from_processor() {
    Caches found;
#if defined(SRFAST_X86)
    // Intel's leaf and AMD's leaf have the same form.
    for (const unsigned leaf : {4u, 0x8000001du}) {
        unsigned a, b, c, d;
        for (unsigned index = 0; index < 16 && __get_cpuid_count(leaf, index, &a, &b, &c, &d) && (a & 31); ++index) {
            const std::size_t ways = (b >> 22) + 1, partitions = (b >> 12 & 1023) + 1, line = (b & 4095) + 1,
                              sets = std::size_t{c} + 1;
            if ((a & 31) != 2) add(found, static_cast<int>(a >> 5 & 7), ways * partitions * line * sets);
        }
        if (found.second) break;
    }
#endif
    return found;
}

}  // namespace

Caches find_caches() {
    Caches found = from_linux();
    if (!found.second) found = from_processor();
    if (!found.second) found = {std::size_t{1} << 20, std::size_t{32} << 20};
    return found;
}

}  // namespace srfast
