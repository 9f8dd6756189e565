// The end of a tile of 64 output channels with mma.sync: bias, PReLU, gain and residual in the registers that hold the sums,
// then through shared memory, in 16 bits, to 16-byte stores.
//
// Each warp works on pixels and channels of its own from the residual's copy to the stores, so no barrier of the block is
// needed. The arithmetic is that of finish_tile, bit for bit.
#pragma once

#include "ending.cuh"
#include "epilogue.cuh"

namespace srfast {

// S: see MmaShape; its warps have 64 pixels, four rows, and 32 channels.
template <class T, Ending E, class S>
class TileEnd {
public:
    static constexpr bool PRELU = kHasPrelu<E>, RESIDUAL = kHasResidual<E>;
    static constexpr int WARP_BYTES = 64 * 128;  // of the pixels of a warp and of the one with their other channels
    static_assert(S::TILE_W == 16 && S::FRAGS_P == 4 && S::FRAGS_O == 4 && S::BO == 64,
                  "what a lane copies and stores");

    // Of the tile `rows` rows and `columns` columns count. `place`: WARP_BYTES in shared memory, whose address has no bits
    // below 128; free from `fetch` on, or from `finish` on if there is no residual.
    SRFAST_DEVICE TileEnd(const Epilogue& e, const Tile& t, int rows, int columns, uint32_t place)
        : e_(e), place_(place) {
        const int warp = thread() / 32, lane = thread() % 32, first_y = warp / S::WARPS_O * 4;
        const int unit = warp % S::WARPS_O * 4 + lane % 4, column = column_of_lane();
        const int plane = e.channels / (e.shuffle * e.shuffle), packed = t.block_o * 64;
        const int phase = plane == e.channels ? 0 : packed / plane, phase_y = phase == 0 ? 0 : phase / e.shuffle;
        first_channel_ = packed + warp % S::WARPS_O * 32 + lane % 4 * 2;
        const int y = (t.y0 + first_y) * e.shuffle + phase_y,
                  x = (t.x0 + column) * e.shuffle + phase - phase_y * e.shuffle;
        const int channel = packed - phase * plane + unit * 8;
        out_ = 2 * offset_of(e.out, t.image, y, x, channel);
        keep(out_);
        if (RESIDUAL) {
            residual_ = 2 * offset_of(e.residual, t.image, y, x, channel);
            keep(residual_);
        }
        const int high = t.height - t.y0 < rows ? t.height - t.y0 : rows;
        const int wide = t.width - t.x0 < columns ? t.width - t.x0 : columns;
#pragma unroll
        for (int half = 0; half < 2; ++half) left_[half] = column + half * 8 < wide ? high - first_y : 0;
        // Read now, as there are registers for them, and not behind the last product.
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                bias_[j][i] = ldg_float(e.bias + first_channel_ + j * 8 + i);
                keep(bias_[j][i]);
                if (PRELU) slope_[j][i] = ldg_float(e.slope + first_channel_ + j * 8 + i);
                if (PRELU) keep(slope_[j][i]);
            }
    }

    // Starts bringing the residual; `finish` waits for it.
    SRFAST_DEVICE void fetch() const {
        if (!RESIDUAL) return;
        const char* base = static_cast<const char*>(e_.residual.data);
        const long long row = 2LL * e_.shuffle * e_.residual.row_stride;
        const int half = 16 * e_.shuffle * e_.residual.pixel_stride;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const bool valid = j / 2 < left_[j % 2];
            cp_async<16>(chunk(j), valid ? base + residual_ + j / 2 * row + j % 2 * half : base, valid);
        }
    }

    SRFAST_DEVICE void finish(const float (&acc)[4][4][4]) const {
        const int lane = thread() % 32, first_o = thread() / 32 % S::WARPS_O * 4;  // chunk of the warp's first channels
        // Rows of four matrices: eight pixels, the next eight, and eight channels on. Other fragments lie a constant further,
        // other channels differ in the chunk's bits.
        const uint32_t rows = place_ + swizzled<8>(lane % 16, first_o + lane / 16);
        const uint32_t values = place_ + swizzled<8>(lane / 4, first_o) + lane % 4 * 4;
        if (RESIDUAL) {
            cp_async_wait<0>();
            sync_warp();
        }
        const auto matrices = [&](int part) { return (rows ^ (part % 2 * 32)) + part / 2 * 2048; };
        uint32_t residual[9][4] = {};
        if (RESIDUAL) ldmatrix_x4(residual[0], matrices(0));
#pragma unroll
        for (int part = 0; part < 8; ++part) {
            // Of the residual the next matrices are on the way while these are made.
            if (RESIDUAL && part < 7) ldmatrix_x4(residual[part + 1], matrices(part + 1));
            const int i = part / 2;
            uint32_t words[4], places[4];
#pragma unroll
            for (int m = 0; m < 4; ++m) {
                const int j = part % 2 * 2 + m / 2;
                const float (&sums)[4] = acc[i][j];
                words[m] = ended(sums[m % 2 * 2], sums[m % 2 * 2 + 1], bias_[j], slope_[j], residual[part][m]);
                places[m] = (values ^ (j * 16)) + i * 2048 + m % 2 * 1024;
            }
            store_matrices(matrices(part), places, words);
        }
        sync_warp();
        char* base = static_cast<char*>(e_.out.data) + out_;
        const long long row = 2LL * e_.shuffle * e_.out.row_stride;
        const int half = 16 * e_.shuffle * e_.out.pixel_stride;
#pragma unroll
        for (int j = 0; j < 8; ++j)
            stg128_if(j / 2 < left_[j % 2], base + j / 2 * row + j % 2 * half, lds128(chunk(j)));
    }

private:
    const Epilogue& e_;
    uint32_t place_;
    float bias_[4][2], slope_[4][2];  // of the lane's channels
    int first_channel_, left_[2];     // rows of the lane's left columns, and of those eight further right
    long long out_, residual_ = 0;    // bytes to the lane's first eight channels

    // Of eight lanes that shared memory serves together four are four pixels further on: chunks of all banks.
    SRFAST_DEVICE static int column_of_lane() { return thread() % 32 / 8 + thread() / 4 % 2 * 4; }
    // Of the lane's eight channels in pixel column_of_lane() + 8 * j of the warp.
    SRFAST_DEVICE uint32_t chunk(int j) const {
        return place_ + swizzled<8>(column_of_lane(), thread() / 32 % S::WARPS_O * 4 + thread() % 4) + j * 1024;
    }

    // Two neighbouring channels of a pixel.
    SRFAST_DEVICE uint32_t ended(float a, float b, const float (&bias)[2], const float (&slope)[2],
                                 uint32_t residual) const {
        float v[2] = {a + bias[0], b + bias[1]};
        const Floats2 r = unpack2<T>(residual);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            if (PRELU) v[i] = activate(v[i], slope[i], Act::prelu);
            if (RESIDUAL) v[i] = rounded_sum(rounded_product(v[i], e_.gain), i ? r.hi : r.lo);
        }
        return pack2<T>(v[0], v[1]);
    }
};

}  // namespace srfast
