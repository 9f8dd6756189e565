// How Hopper's convolution is run with a fault in the end of its rows; included in the namespace of each.

// In one form with one ending.
template <Window WINDOW, Ending E>
int run_planted_row(const ConvParams& given, Window, int rows, int blocks, const Stream& stream) {
    if constexpr (WINDOW == Window::held) {
        HeldParams p{given, rows};
        const long long launched = cut_strips(p.conv, HeldShape::N, rows, blocks);
        return launch(conv_held<Half, E>, launched, 384, HeldShape::SHARED, stream, p);
    } else {
        using W = WgmmaShape<WINDOW>;
        HopperParams p{{}, given, rows};
        const long long launched = cut_strips(p.conv, W::N, rows, blocks);
        p.map = tensor_map(p.conv, false, W::BOX);
        return launch(conv_wgmma<Half, WINDOW, E>, launched, 384, W::SHARED, stream, p);
    }
}

// In the form and with the ending that are asked for; a template, as only the code without a fault needs all of them.
template <class T = Half>
int run_any_row(const ConvParams& p, Window window, int rows, int blocks, const Stream& stream) {
    return by_ending(ending_of(p.end), [&](auto ending) {
        constexpr Ending E = decltype(ending)::value;
        return window == Window::held ? run_planted_row<Window::held, E>(p, window, rows, blocks, stream)
                                      : run_planted_row<Window::shifted, E>(p, window, rows, blocks, stream);
    });
}
