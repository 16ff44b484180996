// Registers fix plumed with a LAMMPS that has none of its own; nothing else happens when the library is loaded.

#include "fix_plumed.h"
#include "lammps.h"
#include "modify.h"
#include "style_registration.h"

using namespace LAMMPS_NS;

void lammpsplugin_init(void *lammps, void *handle, void *register_function) {
    if (!is_made_for(lammps, "plugin with fix plumed", "its fix plumed")) {
        return;
    }
    if (static_cast<LAMMPS *>(lammps)->modify->fix_map->count("plumed") > 0) {
        return;  // LAMMPS's own
    }
    StyleRegistration styles(lammps, handle, register_function);
    styles.add<FixPlumed>("fix", "plumed", "PLUMED with any kernel, on any number of ranks");
}
