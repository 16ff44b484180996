// Parameters of the screened nuclear repulsion. Universal screening function: Ziegler, Biersack, Littmark, "The
// Stopping and Range of Ions in Matter" (1985); digits as in the GPUMD package, which fitted models contain.
#include <algorithm>
#include <cmath>

#include "constants.h"
#include "elements.h"
#include "prepared_model.h"

namespace qnep {

namespace {

constexpr double universal_amplitudes[4] = {0.18175, 0.50986, 0.28022, 0.02817};
constexpr double universal_decays[4] = {3.1998, 0.94229, 0.4029, 0.20162};

// Number of the unordered pair in the order (0,0), (0,1), ..., (0,T-1), (1,1), ...
std::size_t pair_number(int i, int j, int n_types) {
    const int low = std::min(i, j), high = std::max(i, j);
    return static_cast<std::size_t>(low) * n_types - static_cast<std::size_t>(low) * (low - 1) / 2 + high - low;
}

ZblPair universal_pair(const Model &model, int z_i, int z_j) {
    ZblPair pair;
    pair.inner = model.zbl_inner_cutoff;
    pair.outer = model.zbl_outer_cutoff;
    if (model.zbl == ZblForm::typewise) {
        pair.inner = 0.0;
        pair.outer =
            std::min(model.zbl_typewise_factor * (zbl_radii[z_i - 1] + zbl_radii[z_j - 1]), model.zbl_outer_cutoff);
    }
    std::copy(universal_amplitudes, universal_amplitudes + 4, pair.amplitude);
    std::copy(universal_decays, universal_decays + 4, pair.decay);
    return pair;
}

ZblPair flexible_pair(const Model &model, int i, int j) {
    const double *numbers = model.parameters.data() + model.zbl_offset() + 10 * pair_number(i, j, model.n_types());
    ZblPair pair;
    pair.inner = numbers[0];
    pair.outer = numbers[1];
    for (int term = 0; term < 4; ++term) {
        pair.amplitude[term] = numbers[2 + 2 * term];
        pair.decay[term] = numbers[3 + 2 * term];
    }
    return pair;
}

}  // namespace

std::vector<ZblPair> zbl_pairs(const Model &model) {
    std::vector<ZblPair> pairs;
    if (model.zbl == ZblForm::none) return pairs;
    for (int i = 0; i < model.n_types(); ++i) {
        for (int j = 0; j < model.n_types(); ++j) {
            const int z_i = atomic_number(model.elements[i]), z_j = atomic_number(model.elements[j]);
            ZblPair pair =
                model.zbl == ZblForm::flexible ? flexible_pair(model, i, j) : universal_pair(model, z_i, z_j);
            const double inverse_length = 2.134563 * (std::pow(z_i, 0.23) + std::pow(z_j, 0.23));  // 1/Å
            for (double &amplitude : pair.amplitude)
                amplitude *= coulomb_constant * z_i * z_j;
            for (double &decay : pair.decay)
                decay *= inverse_length;
            pairs.push_back(pair);
        }
    }
    return pairs;
}

}  // namespace qnep
