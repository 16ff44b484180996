// Registers fix plumed with a LAMMPS that has none of its own; nothing else happens when the library is loaded.

#include "comm.h"
#include "fix_plumed.h"
#include "lammps.h"
#include "lammps_plugin_interface.h"
#include "modify.h"
#include "utils.h"

using namespace LAMMPS_NS;

extern "C" int lammps_version(void *);  // of the C library interface, the same in every LAMMPS

namespace {

void *create_fix(void *lammps, int narg, char **arg) {
    return new FixPlumed(static_cast<LAMMPS *>(lammps), narg, arg);
}

}  // namespace

void lammpsplugin_init(void *lammps, void *handle, void *register_function) {
    auto *const running = static_cast<LAMMPS *>(lammps);
    if (lammps_version(lammps) != QNEP_LAMMPS_VERSION_NUMBER) {  // its classes have another layout
        if (running->comm->me == 0) {
            utils::logmesg(running,
                           "WARNING: the plugin with fix plumed was built for LAMMPS version {}, this is {}: it stays "
                           "out\n",
                           QNEP_LAMMPS_VERSION_NUMBER, lammps_version(lammps));
        }
        return;
    }
    if (running->modify->fix_map->count("plumed") > 0) {
        return;  // LAMMPS's own
    }
    lammpsplugin_t plugin{};
    plugin.version = QNEP_LAMMPS_VERSION;
    plugin.author = "the qnep developers";
    plugin.handle = handle;
    plugin.style = "fix";
    plugin.name = "plumed";
    plugin.info = "PLUMED with any kernel, on any number of ranks";
    plugin.creator.with_arguments = &create_fix;
    reinterpret_cast<lammpsplugin_regfunc>(register_function)(&plugin, lammps);
}
