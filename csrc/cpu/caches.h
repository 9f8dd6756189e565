// The caches of this machine, from which the kernels choose how much they do at a time. Results do not depend on it.
#pragma once

#include <cstddef>

namespace srfast {

struct Caches {
    std::size_t second = 0, last = 0;  // bytes: L2 of one core, and the last level, which cores share
};

// Those of the first processor, as the system or else the processor itself tells; where neither does, 1 MB and 32 MB.
Caches find_caches();

}  // namespace srfast
