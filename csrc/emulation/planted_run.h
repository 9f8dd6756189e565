// How the kernels with a planted fault are run; included in the namespace of each.

inline int run_planted_conv(const Variant& v, const ConvParams& p, const Stream& stream) {
    const auto run = [&](auto shape) {
        using S = decltype(shape);
        if (S::TILE_H == 8 && phases_of(p.end)) {
            using P = MmaShape<64, 64, 3, 8, 16, 2, 2>;
            return launch(conv_mma<Half, P, Ending::phases>, 1LL * p.images * p.tiles_y * p.tiles_x, P::THREADS,
                          P::shared_bytes(p.kernel, p.blocks_c), stream, p);
        }
        return by_ending(stream.device < 0 ? Ending::general : ending_of(p.end), [&](auto ending) {
            return launch(conv_mma<Half, S, decltype(ending)::value>,
                          1LL * p.images * p.tiles_y * p.tiles_x * ((p.end.channels + 63) / 64), S::THREADS,
                          S::shared_bytes(p.kernel, p.blocks_c), stream, p);
        });
    };
    return v.tile_h == 8 ? run(MmaShape<64, 64, 3, 8, 16, 2, 2>{}) : run(MmaShape<64, 64, 3, 16, 16, 4, 2>{});
}
