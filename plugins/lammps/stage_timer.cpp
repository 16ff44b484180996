#include "stage_timer.h"

#include "comm.h"

namespace LAMMPS_NS {

void StageTimer::lap(Stage stage) {
    const double now = platform::walltime();
    seconds_[static_cast<int>(stage)] += now - last_;
    last_ = now;
}

void StageTimer::report() {
    static const char *const names[n_stages] = {"Neighbor blocks", "Descriptors", "Charges",  "K-space",
                                                "Forces",          "Comm",        "Deviation"};
    std::array<double, n_stages> lowest = seconds_;
    std::array<double, n_stages> highest = seconds_;
    std::array<double, n_stages> sum = seconds_;
    MPI_Allreduce(MPI_IN_PLACE, lowest.data(), n_stages, MPI_DOUBLE, MPI_MIN, world);
    MPI_Allreduce(MPI_IN_PLACE, highest.data(), n_stages, MPI_DOUBLE, MPI_MAX, world);
    MPI_Allreduce(MPI_IN_PLACE, sum.data(), n_stages, MPI_DOUBLE, MPI_SUM, world);
    double total = 0.0;
    for (const double seconds : sum) {
        total += seconds;
    }
    if (comm->me != 0 || total <= 0.0) {
        return;
    }
    utils::logmesg(lmp, "\nTime of pair style qnep by stage (s, over MPI ranks):\n");
    utils::logmesg(lmp, "{:<16} |{:>11} |{:>11} |{:>11} |{:>7}\n", "Stage", "min", "avg", "max", "%");
    for (int k = 0; k < n_stages; ++k) {
        utils::logmesg(lmp, "{:<16} |{:>11.5g} |{:>11.5g} |{:>11.5g} |{:>7.2f}\n", names[k], lowest[k],
                       sum[k] / comm->nprocs, highest[k], 100.0 * sum[k] / total);
    }
}

}  // namespace LAMMPS_NS
