// Frames to the network's images and back: packed channels, or luma and half-size chroma (NV12, P010).
//
// Chroma lies where MPEG-2 and later put it: beside the left of each pair of columns, between the two rows. On the way in
// it is interpolated linearly; on the way out it is filtered with (1 2 1) / 4 across and (1 1) / 2 down. Sizes are even, and
// white is `gain`.
#pragma once

#include "epilogue.cuh"
#include "kernels.h"

namespace srfast {

constexpr int kFrameThreads = 256;

SRFAST_DEVICE float frame_value(const FrameParams& p, const View& v, int image, int y, int x, int channel) {
    const long long offset = offset_of(v, image, y, x, channel);
    if (p.wide) return static_cast<float>(static_cast<const uint16_t*>(v.data)[offset] >> p.shift);
    return static_cast<float>(static_cast<const uint8_t*>(v.data)[offset]);
}

SRFAST_DEVICE void put_frame_value(const FrameParams& p, const View& v, int image, int y, int x, int channel,
                                   float value) {
    if (!finite(value)) raise_flag(p.flag);
    const int steps = round_int(limit(value, 0.f, p.peak)) << p.shift;
    const long long offset = offset_of(v, image, y, x, channel);
    if (p.wide)
        static_cast<uint16_t*>(v.data)[offset] = static_cast<uint16_t>(steps);
    else
        static_cast<uint8_t*>(v.data)[offset] = static_cast<uint8_t>(steps);
}

template <class T>
SRFAST_DEVICE float image_value(const FrameParams& p, int image, int y, int x, int channel) {
    return unpack2<T>(static_cast<const uint16_t*>(p.image.data)[offset_of(p.image, image, y, x, channel)]).lo;
}
template <class T>
SRFAST_DEVICE void put_image_value(const FrameParams& p, int image, int y, int x, int channel, float value) {
    static_cast<uint16_t*>(p.image.data)[offset_of(p.image, image, y, x, channel)] =
        static_cast<uint16_t>(pack2<T>(value, 0.f));
}

SRFAST_DEVICE int inside(int i, int size) { return i < 0 ? 0 : (i < size ? i : size - 1); }

// The pixel of this thread among rows of `width`; false beyond the last.
SRFAST_DEVICE bool frame_position(int images, int height, int width, int& image, int& y, int& x) {
    const long long i = static_cast<long long>(block()) * kFrameThreads + thread();
    x = static_cast<int>(i % width);
    y = static_cast<int>(i / width % height);
    image = static_cast<int>(i / width / height);
    return image < images;
}

template <class T>
SRFAST_KERNEL(kFrameThreads, 1)
packed_in(SRFAST_PARAM FrameParams p) {
    int image, y, x;
    if (!frame_position(p.images, p.height, p.width, image, y, x)) return;
    for (int c = 0; c < p.channels; ++c)
        put_image_value<T>(p, image, y, x, c,
                           frame_value(p, p.frame, image, y, x, p.swap ? p.channels - 1 - c : c) * p.gain);
}

template <class T>
SRFAST_KERNEL(kFrameThreads, 1)
packed_out(SRFAST_PARAM FrameParams p) {
    int image, y, x;
    if (!frame_position(p.images, p.height, p.width, image, y, x)) return;
    for (int c = 0; c < p.channels; ++c)
        put_frame_value(p, p.frame, image, y, x, p.swap ? p.channels - 1 - c : c,
                        image_value<T>(p, image, y, x, c) * p.gain);
}

SRFAST_DEVICE float chroma_at(const FrameParams& p, int image, int y, int x, int channel) {
    const int rows = p.height / 2, columns = p.width / 2, left = x / 2, near = y / 2;
    const int right = inside(left + x % 2, columns), far = inside(y % 2 ? near + 1 : near - 1, rows);
    const float a = 0.5f * (frame_value(p, p.chroma, image, near, left, channel) +
                            frame_value(p, p.chroma, image, near, right, channel));
    const float b = 0.5f * (frame_value(p, p.chroma, image, far, left, channel) +
                            frame_value(p, p.chroma, image, far, right, channel));
    return 0.75f * a + 0.25f * b;
}

template <class T>
SRFAST_KERNEL(kFrameThreads, 1)
yuv_in(SRFAST_PARAM FrameParams p) {
    int image, y, x;
    if (!frame_position(p.images, p.height, p.width, image, y, x)) return;
    const float luma = frame_value(p, p.frame, image, y, x, 0) - p.offset[0];
    const float u = chroma_at(p, image, y, x, 0) - p.offset[1], v = chroma_at(p, image, y, x, 1) - p.offset[2];
    for (int c = 0; c < 3; ++c) {
        const float value = p.matrix[c * 3] * luma + p.matrix[c * 3 + 1] * u + p.matrix[c * 3 + 2] * v;
        put_image_value<T>(p, image, y, x, c, limit(value, 0.f, p.gain));
    }
}

// A thread makes two by two luma values and one of each chroma.
template <class T>
SRFAST_KERNEL(kFrameThreads, 1)
yuv_out(SRFAST_PARAM FrameParams p) {
    int image, row, column;
    if (!frame_position(p.images, p.height / 2, p.width / 2, image, row, column)) return;
    float mean[3] = {0.f, 0.f, 0.f};
    for (int dy = 0; dy < 2; ++dy)
        for (int dx = -1; dx < 2; ++dx) {
            const int y = row * 2 + dy, x = column * 2 + dx;
            float luma = p.offset[0];
            for (int c = 0; c < 3; ++c) {
                const float given = image_value<T>(p, image, y, inside(x, p.width), c),
                            value = limit(given, 0.f, p.gain);
                if (!finite(given)) raise_flag(p.flag);
                mean[c] += value * (dx == 0 ? 0.25f : 0.125f);
                luma += p.matrix[c] * value;
            }
            if (dx >= 0) put_frame_value(p, p.frame, image, y, x, 0, luma);
        }
    for (int i = 1; i < 3; ++i)
        put_frame_value(
            p, p.chroma, image, row, column, i - 1,
            p.offset[i] + p.matrix[i * 3] * mean[0] + p.matrix[i * 3 + 1] * mean[1] + p.matrix[i * 3 + 2] * mean[2]);
}

template <class T>
int run_frames(FrameJob job, const FrameParams& p, const Stream& stream) {
    const bool halves = job == FrameJob::yuv_out;
    const long long pixels = 1LL * p.images * (halves ? p.height / 2 : p.height) * (halves ? p.width / 2 : p.width);
    void (*const kernels[])(FrameParams) = {packed_in<T>, packed_out<T>, yuv_in<T>, yuv_out<T>};
    return launch(kernels[static_cast<int>(job)], (pixels + kFrameThreads - 1) / kFrameThreads, kFrameThreads, 0,
                  stream, p);
}

}  // namespace srfast
