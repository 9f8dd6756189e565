// How results end: one instance of a kernel for each ending, among which the host chooses.
#pragma once

#include "params.h"

#include <type_traits>

namespace srfast {

// general: everything, by finish_tile. The others know what they do when they are compiled; phases: see phases_of.
enum class Ending : int { general = 0, plain = 1, prelu = 2, residual = 3, prelu_residual = 4, phases = 5 };

template <Ending E>
constexpr bool kHasPrelu = E == Ending::prelu || E == Ending::prelu_residual;
template <Ending E>
constexpr bool kHasResidual = E == Ending::residual || E == Ending::prelu_residual;

// What is fast are whole blocks of 64 channels with a PReLU, a residual or both.
inline Ending ending_of(const Epilogue& e) {
    const bool prelu = e.act == Act::prelu, residual = e.residual.data != nullptr;
    const bool fast = e.out_type == OutType::same && e.channels / (e.shuffle * e.shuffle) % 64 == 0 &&
                      e.residual_factor == 1 && !e.clamp && (prelu || e.act == Act::none) &&
                      (residual || e.gain == 1.f);
    if (!fast) return Ending::general;
    return residual ? (prelu ? Ending::prelu_residual : Ending::residual) : (prelu ? Ending::prelu : Ending::plain);
}
// run(std::integral_constant<Ending, e>).
template <class F>
int by_ending(Ending e, const F& run) {
    switch (e) {
        case Ending::plain: return run(std::integral_constant<Ending, Ending::plain>{});
        case Ending::prelu: return run(std::integral_constant<Ending, Ending::prelu>{});
        case Ending::residual: return run(std::integral_constant<Ending, Ending::residual>{});
        case Ending::prelu_residual: return run(std::integral_constant<Ending, Ending::prelu_residual>{});
        default: return run(std::integral_constant<Ending, Ending::general>{});
    }
}

}  // namespace srfast
