#include "find_pair_qnep.h"

#include "error.h"
#include "force.h"
#include "lammps.h"
#include "pair_qnep.h"

namespace LAMMPS_NS {

PairQNEP *find_pair_qnep(LAMMPS *lammps, const char *asker) {
    constexpr int pattern = 0;
    auto *pair = dynamic_cast<PairQNEP *>(lammps->force->pair_match("^qnep", pattern));
    if (pair == nullptr) {
        lammps->error->all(FLERR, "{}: wanted one pair_style qnep, got pair_style {}", asker,
                           lammps->force->pair_style != nullptr ? lammps->force->pair_style : "none");
    }
    return pair;
}

}  // namespace LAMMPS_NS
