#include "force_deviation.h"

#include <cmath>

namespace LAMMPS_NS {

std::vector<double> force_deviations(const std::vector<std::vector<double>> &forces, int n_atoms) {
    const auto n_models = static_cast<double>(forces.size());
    std::vector<double> deviations(n_atoms);
    for (int i = 0; i < n_atoms; ++i) {
        double variance = 0.0;
        for (int d = 0; d < 3; ++d) {
            const std::size_t k = 3 * static_cast<std::size_t>(i) + d;
            double mean = 0.0;
            for (const auto &of_model : forces) {
                mean += of_model[k] / n_models;
            }
            for (const auto &of_model : forces) {
                variance += (of_model[k] - mean) * (of_model[k] - mean) / n_models;
            }
        }
        deviations[i] = std::sqrt(variance);
    }
    return deviations;
}

}  // namespace LAMMPS_NS
