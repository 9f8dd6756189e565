#include "conv.h"

#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace srfast {
namespace {

constexpr std::size_t kLine = 64, kHugePage = std::size_t{2} << 20;

std::align_val_t alignment(std::size_t bytes) { return std::align_val_t{bytes < kHugePage ? kLine : kHugePage}; }

}  // namespace

void* allocate_lines(std::size_t bytes) {
    void* block = ::operator new(bytes, alignment(bytes));
#if defined(__linux__)
    // Fewer TLB misses on strided reads; only a hint.
    if (bytes >= kHugePage) madvise(block, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
    return block;
}

void free_lines(void* block, std::size_t bytes) { ::operator delete(block, alignment(bytes)); }

}  // namespace srfast
