// The kernels, for the vector type of the including source.
#pragma once

#include "direct.h"
#include "fourier.h"
#include "nodes.h"
#include "split.h"
#include "stacked.h"
#include "winograd.h"

namespace {

void run(const Conv& conv, const Task& task) {
    if (conv.algorithm == srfast::Algorithm::direct)
        run_direct(conv, task);
    else if (conv.algorithm == srfast::Algorithm::fourier)
        run_fourier(conv, task);
    else if (conv.kernel == 9)
        run_split(conv, task);
    else if (!conv.stacked())
        run_winograd(conv, task);
    else
        conv.kernel == 3 ? run_stacked<3>(conv, task) : run_stacked<5>(conv, task);
}

constexpr std::size_t kDirectScratch = Vec::accumulators * kGroup;
constexpr std::size_t kScratch = kFourierScratch;
static_assert(kScratch >= kDirectScratch && kScratch >= kSplitScratch && kScratch >= kWinogradScratch &&
                  kScratch >= kStackedScratch,
              "every kernel finds its scratch");

}  // namespace
