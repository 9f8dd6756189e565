// The end of a row of 64 output channels on Hopper: bias, PReLU, gain and residual in the registers that hold the sums, then
// through shared memory, in 16 bits, to 16-byte stores.
//
// A residual comes to the same place in shared memory while the products are made; a warp reads it with ldmatrix as its
// fragments of the sums lie, and writes the result over it with stmatrix. What a thread stores at the end is what it copied at
// the beginning, so that only what warps exchange needs a barrier. The arithmetic is that of finish_tile, bit for bit.
#pragma once

#include "ending.cuh"
#include "epilogue.cuh"
#include "hopper_ptx.cuh"

namespace srfast {

// A warpgroup's rows of N pixels, of which a strip has `columns`. SCALED: sums are first multiplied by a scale of their channel,
// which the derived class has set, and rounded with the bias once.
template <class T, Ending E, int N, bool SCALED = false>
class RowEnd {
public:
    static constexpr bool PRELU = kHasPrelu<E>, RESIDUAL = kHasResidual<E>;
    static constexpr int ROW_BYTES = N * 128;
    static constexpr int BUFFERS =
        N <= 64 ? 2 : 1;  // in turn: with two, a row's stores need not wait for those of the row before
    static constexpr int SHARED = BUFFERS * ROW_BYTES;

    // group: the warpgroup's number, for its barrier; rows: from one to its next.
    SRFAST_DEVICE RowEnd(const Epilogue& e, int block_o, uint32_t buffers, int group, int rows)
        : buffers_(buffers), e_(e), gain_(e.gain), group_(group) {
        const int t = thread() % 128, lane = t % 32, channel = block_o * 64 + t / 32 * 16 + lane / 4;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            bias_[h] = ldg_float(e.bias + channel + h * 8);
            if (PRELU) slope_[h] = ldg_float(e.slope + channel + h * 8);
        }
        // Lanes address eight pixels of the warp's first eight channels, of its others, and the next eight pixels of both.
        fragments_ = swizzled<8>(lane / 16 * 8 + lane % 8, t / 32 * 2 + lane / 8 % 2);
        chunk_ = swizzled<8>(t / 8, t % 8);
        const int plane = e.channels / (e.shuffle * e.shuffle), phase = block_o * 64 / plane;
        y_ = phase / e.shuffle;
        x_ = phase % e.shuffle + t / 8 * e.shuffle;
        channel_ = block_o * 64 - phase * plane + t % 8 * 8;
        out_row_ = 2LL * rows * e.shuffle * e.out.row_stride;
        residual_row_ = 2LL * rows * e.shuffle * e.residual.row_stride;
        out_step_ = 32 * e.shuffle * e.out.pixel_stride;
        residual_step_ = 32 * e.shuffle * e.residual.pixel_stride;
        keep(out_row_);
        keep(out_step_);
        if (RESIDUAL) {
            keep(residual_row_);
            keep(residual_step_);
        }
    }

    // From here on at row y of an image, columns x0 to x0 + columns.
    SRFAST_DEVICE void begin(int image, int y, int x0, int columns, int width) {
        const int inside = width - x0 < columns ? width - x0 : columns;
        left_ = inside - thread() % 128 / 8;
        out_ = at(e_.out, image, y, x0);
        if (RESIDUAL) residual_ = at(e_.residual, image, y, x0);
    }

    // Starts bringing the row's residual; once for each row, before `finish`.
    SRFAST_DEVICE void fetch() {
        if (!RESIDUAL) return;
        const uint32_t to = buffers_ + chunk_;
#pragma unroll
        for (int j = 0; j < CHUNKS; ++j) {
            if (j * 16 + 16 > N && thread() % 128 / 8 + j * 16 >= N) break;
            const bool valid = j * 16 < left_;
            cp_async<16>(to + j * 2048, valid ? residual_ + j * residual_step_ : residual_, valid);
        }
        cp_async_commit();
    }

    // Makes the row of its sums and stores it; then goes on to the next.
    SRFAST_DEVICE void finish(const float (&acc)[N / 2]) {
        make(acc);
        const uint32_t chunk = buffers_ + chunk_;
#pragma unroll
        for (int j = 0; j < CHUNKS; ++j)
            if (j * 16 + 16 <= N)
                stg128_if(j * 16 < left_, out_ + j * out_step_, lds128(chunk + j * 2048));
            else if (j * 16 < left_)
                stg128(out_ + j * out_step_, lds128(chunk + j * 2048));
        next();
    }

protected:
    static constexpr int CHUNKS = (N * 8 + 127) / 128;  // of 16 bytes that a thread copies and stores of a row

    uint32_t buffers_, chunk_;
    int left_, y_, x_, channel_;
    float scale_[2];  // of the thread's two channels
    char* out_;       // the thread's first eight channels of a row
    int out_step_;

    // Makes the row of its sums, in shared memory: of the thread's pixels chunk_ and each 2048 bytes further.
    SRFAST_DEVICE void make(const float (&acc)[N / 2]) {
        if (RESIDUAL) cp_async_wait<0>();
        // Everybody's residual is there; or, with one buffer, nobody reads the row before any more.
        if (RESIDUAL || BUFFERS == 1) sync_group(1 + group_, 128);
        const uint32_t fragments = buffers_ + fragments_;
        uint32_t r[N / 16 + 1][4] = {};
        // Of the residual the next sixteen pixels are on the way while these are made.
        if (RESIDUAL) ldmatrix_x4_transposed(r[0], fragments);
#pragma unroll
        for (int k = 0; k < N / 16; ++k) {
            if (RESIDUAL && k + 1 < N / 16) ldmatrix_x4_transposed(r[k + 1], fragments + (k + 1) * 2048);
            uint32_t words[4];
#pragma unroll
            for (int q = 0; q < 4; ++q) words[q] = ended(acc[k * 8 + q * 2], acc[k * 8 + q * 2 + 1], q % 2, r[k][q]);
            stmatrix_x4_transposed(fragments + k * 2048, words);
        }
        if (N % 16) {
            constexpr int k = N / 16;
            uint32_t last[2] = {0, 0}, words[2];
            if (RESIDUAL) ldmatrix_x2_transposed(last, fragments + k * 2048);
#pragma unroll
            for (int q = 0; q < 2; ++q) words[q] = ended(acc[k * 8 + q * 2], acc[k * 8 + q * 2 + 1], q, last[q]);
            stmatrix_transposed(fragments + k * 2048, words[0], words[1]);
        }
        sync_group(1 + group_, 128);
    }
    SRFAST_DEVICE void next() {
        out_ += out_row_;
        if (RESIDUAL) residual_ += residual_row_;
        if (BUFFERS == 2) buffers_ ^= ROW_BYTES;
    }

private:
    static_assert(BUFFERS == 1 || (ROW_BYTES & (ROW_BYTES - 1)) == 0, "the other buffer is a bit away");

    const Epilogue& e_;
    float bias_[2], slope_[2], gain_;
    uint32_t fragments_;
    int group_;
    char* residual_;                    // as out_
    long long out_row_, residual_row_;  // bytes from row to row
    int residual_step_;                 // and from the thread's eight channels to its next, as out_step_

    SRFAST_DEVICE char* at(const View& v, int image, int y, int x0) const {
        return static_cast<char*>(v.data) +
               2 * offset_of(v, image, y * e_.shuffle + y_, x0 * e_.shuffle + x_, channel_);
    }

    SRFAST_DEVICE float biased(float sum, int half) const {
        return SCALED ? fused(sum, scale_[half], bias_[half]) : sum + bias_[half];
    }
    // Two neighbouring pixels of a channel.
    SRFAST_DEVICE uint32_t ended(float a, float b, int half, uint32_t residual) const {
        float v[2] = {biased(a, half), biased(b, half)};
        const Floats2 r = unpack2<T>(residual);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            if (PRELU) v[i] = activate(v[i], slope_[half], Act::prelu);
            if (RESIDUAL) v[i] = rounded_sum(rounded_product(v[i], gain_), i ? r.hi : r.lo);
        }
        return pack2<T>(v[0], v[1]);
    }
};

}  // namespace srfast
