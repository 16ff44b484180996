#include "force_deviation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "comm.h"
#include "error.h"

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

DeviationFile::DeviationFile(LAMMPS *lammps, std::string name, bool appends):
    Pointers(lammps), name_(std::move(name)), appends_(appends) {}

DeviationFile::~DeviationFile() {
    if (file_ != nullptr) {
        std::fclose(file_);
    }
}

void DeviationFile::open() {
    file_ = std::fopen(name_.c_str(), appends_ ? "a" : "w");
    if (file_ == nullptr) {
        error->one(FLERR, "pair_style qnep, keyword deviation: cannot open file {}: {}", name_, utils::getsyserror());
    }
    std::fseek(file_, 0, SEEK_END);
    if (std::ftell(file_) == 0) {
        std::fputs("# Deviation of the forces within the committee, eV/Angstrom: sqrt(mean |F_i - mean F_i|^2)\n"
                   "# step max_deviation min_deviation mean_deviation\n",
                   file_);
    }
}

void DeviationFile::write(bigint step, const std::vector<double> &deviations, const std::vector<int> &types) {
    if (step == last_step_) {
        return;
    }
    last_step_ = step;
    double highest = 0.0;
    double lowest = std::numeric_limits<double>::max();
    double sums[2] = {};  // of the deviations, of the atoms
    for (std::size_t i = 0; i < deviations.size(); ++i) {
        if (types[i] >= 0) {
            highest = std::max(highest, deviations[i]);
            lowest = std::min(lowest, deviations[i]);
            sums[0] += deviations[i];
            sums[1] += 1.0;
        }
    }
    MPI_Allreduce(MPI_IN_PLACE, &highest, 1, MPI_DOUBLE, MPI_MAX, world);
    MPI_Allreduce(MPI_IN_PLACE, &lowest, 1, MPI_DOUBLE, MPI_MIN, world);
    MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_DOUBLE, MPI_SUM, world);
    if (comm->me != 0 || sums[1] == 0.0) {
        return;
    }
    if (file_ == nullptr) {
        open();
    }
    fmt::print(file_, "{} {:.8g} {:.8g} {:.8g}\n", step, highest, lowest, sums[0] / sums[1]);
    std::fflush(file_);
}

}  // namespace LAMMPS_NS
