// A text file with one line per step about a number that every atom has.
#pragma once

#include <array>
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

    /// Three sums over the positions of all atoms and the six lengths of the box, Å.
    using Place = std::array<double, 9>;

    /// Nothing is written twice for one step and one place of the atoms: a second `run` command evaluates the last step
    /// of the first again. place: the same on all ranks; values: [n_owned]; types: [>= n_owned], negative for atoms
    /// that are left out. Called by all ranks.
    void write(bigint step, const Place &place, const std::vector<double> &values, const std::vector<int> &types);
    /// What comes next is written in any case: it is of other models.
    void forget_last_row() { last_step_ = -1; }

private:
    void open();
    bool is_written(bigint step, const Place &place) const;

    std::string keyword_, title_, quantity_, name_;
    bool appends_;
    bigint last_step_ = -1;
    Place last_place_{};
    std::FILE *file_ = nullptr;  // on rank 0, from the first line on
};

}  // namespace LAMMPS_NS
