// Registers the styles of qnep with LAMMPS; nothing else happens when the library is loaded.

#include "comm.h"
#include "compute_qnep_atom.h"
#include "fix_qnep_efield.h"
#include "lammps.h"
#include "lammps_plugin_interface.h"
#include "pair_qnep.h"
#include "utils.h"

using namespace LAMMPS_NS;

extern "C" int lammps_version(void *);  // of the C library interface, the same in every LAMMPS

namespace {

void *create_pair(void *lammps) {
    return new PairQNEP(static_cast<LAMMPS *>(lammps));
}

void *create_compute(void *lammps, int narg, char **arg) {
    return new ComputeQNEPAtom(static_cast<LAMMPS *>(lammps), narg, arg);
}

void *create_fix(void *lammps, int narg, char **arg) {
    return new FixQNEPEfield(static_cast<LAMMPS *>(lammps), narg, arg);
}

/// The classes of LAMMPS have another layout in every version, so a plugin for one crashes in another.
bool is_made_for(LAMMPS *lammps) {
    const int running = lammps_version(lammps);
    if (running == QNEP_LAMMPS_VERSION_NUMBER) {
        return true;
    }
    if (lammps->comm->me == 0) {
        utils::logmesg(lammps,
                       "ERROR: the qnep plugin was built for LAMMPS version {} and this is version {}: pair_style qnep "
                       "is not available. Install the matching lammps package or build plugins/lammps against this "
                       "LAMMPS.\n",
                       QNEP_LAMMPS_VERSION_NUMBER, running);
    }
    return false;
}

}  // namespace

void lammpsplugin_init(void *lammps, void *handle, void *register_function) {
    if (!is_made_for(static_cast<LAMMPS *>(lammps))) {
        return;
    }
    const auto register_style = reinterpret_cast<lammpsplugin_regfunc>(register_function);
    lammpsplugin_t plugin{};
    plugin.version = QNEP_LAMMPS_VERSION;
    plugin.author = "the qnep developers";
    plugin.handle = handle;

    plugin.style = "pair";
    plugin.name = "qnep";
    plugin.info = "neuroevolution potentials with charges (NEP, qNEP)";
    plugin.creator.without_arguments = &create_pair;
    register_style(&plugin, lammps);

    plugin.style = "compute";
    plugin.name = "qnep/atom";
    plugin.info = "electric potentials, Born effective charges and force deviations per atom";
    plugin.creator.with_arguments = &create_compute;
    register_style(&plugin, lammps);

    plugin.style = "fix";
    plugin.name = "qnep/efield";
    plugin.info = "uniform electric field through Born effective charges";
    plugin.creator.with_arguments = &create_fix;
    register_style(&plugin, lammps);
}
