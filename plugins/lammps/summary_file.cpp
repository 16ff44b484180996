#include "summary_file.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "comm.h"
#include "error.h"

namespace LAMMPS_NS {

SummaryFile::SummaryFile(LAMMPS *lammps, std::string keyword, std::string title, std::string quantity, std::string name,
                         bool appends):
    Pointers(lammps),
    keyword_(std::move(keyword)), title_(std::move(title)), quantity_(std::move(quantity)), name_(std::move(name)),
    appends_(appends) {}

SummaryFile::~SummaryFile() {
    if (file_ != nullptr) {
        std::fclose(file_);
    }
}

void SummaryFile::open() {
    file_ = std::fopen(name_.c_str(), appends_ ? "a" : "w");
    if (file_ == nullptr) {
        error->one(FLERR, "pair_style qnep, keyword {}: cannot open file {}: {}", keyword_, name_,
                   utils::getsyserror());
    }
    std::fseek(file_, 0, SEEK_END);
    if (std::ftell(file_) == 0) {
        fmt::print(file_, "# {}\n# step max_{} min_{} mean_{}\n", title_, quantity_, quantity_, quantity_);
    }
}

bool SummaryFile::is_written(bigint step, const Place &place) const {
    constexpr double smallest_move = 1.0e-6;  // Å
    constexpr double rounding = 1.0e-10;      // of sums in another order, over a million atoms
    return step == last_step_ &&
           std::equal(place.begin(), place.end(), last_place_.begin(), [](double now, double before) {
               return std::abs(now - before) <= smallest_move + rounding * std::abs(before);
           });
}

void SummaryFile::write(bigint step, const Place &place, const std::vector<double> &values,
                        const std::vector<int> &types) {
    if (is_written(step, place)) {
        return;
    }
    last_step_ = step;
    last_place_ = place;
    double highest = 0.0;
    double lowest = std::numeric_limits<double>::max();
    double sums[2] = {};  // of the values, of the atoms
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (types[i] >= 0) {
            highest = std::max(highest, values[i]);
            lowest = std::min(lowest, values[i]);
            sums[0] += values[i];
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
