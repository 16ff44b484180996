// Looks keywords up in the table of their readers.
#pragma once

#include <map>
#include <string>

#include "error.h"
#include "lammps.h"

namespace LAMMPS_NS {

/// What reads `keyword` of `command`; the error about an unknown one names all that are known.
template <class Reader>
const Reader &find_reader(LAMMPS *lammps, const char *command, const std::map<std::string, Reader> &table,
                          const std::string &keyword) {
    const auto found = table.find(keyword);
    if (found == table.end()) {
        std::string known;
        for (const auto &entry : table) {
            known += (known.empty() ? "" : ", ") + entry.first;
        }
        lammps->error->all(FLERR, "{}: unknown keyword {}, wanted one of: {}", command, keyword, known);
    }
    return found->second;
}

}  // namespace LAMMPS_NS
