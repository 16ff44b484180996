// A text file with one line per step about a number that every atom has.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "pointers.h"

namespace LAMMPS_NS {

/// Step, maximum, minimum and mean over all atoms of the model.
class SummaryFile : protected Pointers {
public:
    /// keyword: of the pair style, for messages; title: first line; quantity: name of the columns.
    SummaryFile(LAMMPS *lammps, std::string keyword, std::string title, std::string quantity, std::string name,
                bool appends);
    ~SummaryFile() override;
    SummaryFile(const SummaryFile &) = delete;
    SummaryFile &operator=(const SummaryFile &) = delete;

    /// Nothing is written twice for one step: a second `run` command evaluates the last step of the first again.
    /// values: [n_owned]; types: [>= n_owned], negative for atoms that are left out. Called by all ranks.
    void write(bigint step, const std::vector<double> &values, const std::vector<int> &types);

private:
    void open();

    std::string keyword_, title_, quantity_, name_;
    bool appends_;
    bigint last_step_ = -1;
    std::FILE *file_ = nullptr;  // on rank 0, from the first line on
};

}  // namespace LAMMPS_NS
