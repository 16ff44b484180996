// Where the time of a force evaluation goes.
#pragma once

#include <array>
#include <string>

#include "pointers.h"

namespace LAMMPS_NS {

enum class Stage { neighbors, network, charges, kspace, forces, communication, deviation, count };

/// Wall-clock seconds per stage on this rank; `report` gathers them.
class StageTimer : protected Pointers {
public:
    explicit StageTimer(LAMMPS *lammps): Pointers(lammps) {}

    void reset() { seconds_.fill(0.0); }
    void start() { last_ = platform::walltime(); }
    /// Books the time since `start` or the last `lap` on a stage.
    void lap(Stage stage);
    /// Writes a table with minimum, average and maximum over the ranks to the log. Called by all ranks.
    void report();

private:
    static constexpr int n_stages = static_cast<int>(Stage::count);
    std::array<double, n_stages> seconds_{};
    double last_ = 0.0;
};

}  // namespace LAMMPS_NS
