// 16-bit values to bytes: at the end of a row of results, and of a whole image.
//
// A byte is round(255 * share), half to even, where share = value * gain + offset is rounded once and kept from 0 to 1. What is
// converted is always the 16-bit value, so that both ways give the same bytes. Infinities and what lies beyond the bytes' range
// become its ends, NaN 0.
#pragma once

#include "row_end.cuh"

namespace srfast {

// Values of eight channels to eight bytes.
struct ToBytes {
    // Added to a small number this leaves it, rounded, in the low bits of the sum: a float of this size has no bits behind the
    // point. So a byte costs two multiply-adds, of which the first also limits; a conversion would take the time of four.
    static constexpr float BASE = 12582912.f;  // 1.5 * 2^23
    float gain, offset;

    SRFAST_DEVICE explicit ToBytes(const ByteView& v) : gain(v.gain), offset(v.offset) {}
    SRFAST_DEVICE uint32_t byte(float value) const {
        return as_bits(fused(fused_share(value, gain, offset), 255.f, BASE));
    }
    template <class T>
    SRFAST_DEVICE void convert(const Words4& values, uint32_t (&bytes)[2]) const {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const Floats2 a = unpack2<T>(values.w[half * 2]), b = unpack2<T>(values.w[half * 2 + 1]);
            bytes[half] = low_bytes(byte(a.lo), byte(a.hi), byte(b.lo), byte(b.hi));
        }
    }
};

// RowEnd of scaled sums that stores each row as bytes too: only so without a place for the 16-bit values, and the other way round.
template <class T, Ending E, int N>
class BytesEnd : public RowEnd<T, E, N, true> {
    using Row = RowEnd<T, E, N, true>;
    static_assert(N % 16 == 0, "a thread has a pixel of every sixteen");

public:
    // scale: of every output channel.
    SRFAST_DEVICE BytesEnd(const Epilogue& e, const float* scale, const ByteView& b, int block_o, uint32_t buffers,
                           int group, int rows)
        : Row(e, block_o, buffers, group, rows), e_(e), b_(b), to_bytes_(b) {
        const int t = thread() % 128, channel = block_o * 64 + t / 32 * 16 + t % 32 / 4;
#pragma unroll
        for (int h = 0; h < 2; ++h) this->scale_[h] = ldg_float(scale + channel + h * 8);
        row_ = 1LL * rows * e.shuffle * b.view.row_stride;
        step_ = 16 * e.shuffle * b.view.pixel_stride;
        keep(row_);
        keep(step_);
    }

    SRFAST_DEVICE void begin(int image, int y, int x0, int columns, int width) {
        Row::begin(image, y, x0, columns, width);
        bytes_ = static_cast<char*>(b_.view.data) +
                 offset_of(b_.view, image, y * e_.shuffle + this->y_, x0 * e_.shuffle + this->x_, this->channel_);
    }

    SRFAST_DEVICE void finish(const float (&acc)[N / 2]) {
        this->make(acc);
        const uint32_t chunk = this->buffers_ + this->chunk_;
        const int halves_left = e_.out.data ? this->left_ : 0, bytes_left = b_.view.data ? this->left_ : 0;
#pragma unroll
        for (int j = 0; j < Row::CHUNKS; ++j) {
            const Words4 values = lds128(chunk + j * 2048);
            uint32_t words[2];
            to_bytes_.template convert<T>(values, words);
            stg128_if(j * 16 < halves_left, this->out_ + j * this->out_step_, values);
            stg64_if(j * 16 < bytes_left, bytes_ + j * step_, words[0], words[1]);
        }
        bytes_ += row_;
        this->next();
    }

private:
    const Epilogue& e_;
    const ByteView& b_;
    ToBytes to_bytes_;
    char* bytes_;    // the thread's first eight channels of a row
    long long row_;  // from row to row
    int step_;       // and from its eight channels to its next
};

constexpr int kQuantizeThreads = 256;

// An image of 64 channels to bytes, eight channels a thread.
template <class T>
SRFAST_KERNEL(kQuantizeThreads, 1)
quantize(SRFAST_PARAM QuantizeParams p) {
    const long long i = 1LL * block() * kQuantizeThreads + thread(), pixel = i / 8;
    const int channel = static_cast<int>(i % 8) * 8, x = static_cast<int>(pixel % p.width),
              y = static_cast<int>(pixel / p.width % p.height), image = static_cast<int>(pixel / p.width / p.height);
    if (image >= p.images) return;
    uint32_t words[2];
    ToBytes(p.bytes).template convert<T>(
        ldg128_written(static_cast<const uint16_t*>(p.x.data) + offset_of(p.x, image, y, x, channel)), words);
    stg64_if(true, static_cast<char*>(p.bytes.view.data) + offset_of(p.bytes.view, image, y, x, channel), words[0],
             words[1]);
}

}  // namespace srfast
