#include "conv.h"

#include <cstdint>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

// Huge pages: fewer TLB misses on strided reads, and weights that lie side by side in the cache: scattered small pages made one
// process in six 15% slower than the others. Large blocks have pages of their own, middle ones share a chunk. Under
// AddressSanitizer every block is its own, or it would not see who reads beyond one.
#if defined(__SANITIZE_ADDRESS__)
#define SRFAST_CHUNKS false
#else
#define SRFAST_CHUNKS true
#endif

namespace srfast {
namespace {

constexpr std::size_t kLine = 64, kHugePage = std::size_t{2} << 20, kChunk = 2 * kHugePage, kMiddle = 64 << 10;

// The first line of a chunk.
struct Chunk {
    std::size_t used;  // bytes, this line included
    int blocks;        // that are in use
};

std::mutex chunks_mutex;
Chunk* open_chunk = nullptr;  // where the next block goes

void* huge(std::size_t bytes, std::size_t alignment) {
    void* block = ::operator new(bytes, std::align_val_t{alignment});
#if defined(__linux__)
    madvise(block, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // only a hint
#endif
    return block;
}

void* from_chunk(std::size_t bytes) {
    bytes = (bytes + kLine - 1) / kLine * kLine;
    const std::lock_guard<std::mutex> lock(chunks_mutex);
    if (!open_chunk || open_chunk->used + bytes > kChunk) {
        // A chunk that is left goes with the last of its blocks.
        if (open_chunk && open_chunk->blocks == 0) ::operator delete(open_chunk, std::align_val_t{kChunk});
        open_chunk = nullptr;
        open_chunk = new (huge(kChunk, kChunk)) Chunk{kLine, 0};
    }
    void* block = reinterpret_cast<char*>(open_chunk) + open_chunk->used;
    open_chunk->used += bytes;
    ++open_chunk->blocks;
    return block;
}

void to_chunk(void* block) {
    Chunk* chunk = reinterpret_cast<Chunk*>(reinterpret_cast<std::uintptr_t>(block) / kChunk * kChunk);
    const std::lock_guard<std::mutex> lock(chunks_mutex);
    if (--chunk->blocks > 0) return;
    if (chunk == open_chunk)
        chunk->used = kLine;
    else
        ::operator delete(chunk, std::align_val_t{kChunk});
}

bool is_middle(std::size_t bytes) { return SRFAST_CHUNKS && bytes >= kMiddle && bytes < kHugePage; }

}  // namespace

void* allocate_lines(std::size_t bytes) {
    if (is_middle(bytes)) return from_chunk(bytes);
    return bytes < kHugePage ? ::operator new(bytes, std::align_val_t{kLine}) : huge(bytes, kHugePage);
}

void free_lines(void* block, std::size_t bytes) {
    if (is_middle(bytes)) return to_chunk(block);
    ::operator delete(block, std::align_val_t{bytes < kHugePage ? kLine : kHugePage});
}

}  // namespace srfast
