// Registers the styles of qnep with LAMMPS; nothing else happens when the library is loaded.

#include "compute_qnep_atom.h"
#include "fix_qnep_conp.h"
#include "fix_qnep_efield.h"
#include "pair_qnep.h"
#include "style_registration.h"

using namespace LAMMPS_NS;

void lammpsplugin_init(void *lammps, void *handle, void *register_function) {
    if (!is_made_for(lammps, "qnep plugin", "pair_style qnep")) {
        return;
    }
    StyleRegistration styles(lammps, handle, register_function);
    styles.add_pair<PairQNEP>("qnep", "neuroevolution potentials with charges (NEP, qNEP)");
    styles.add<ComputeQNEPAtom>("compute", "qnep/atom",
                                "electric potentials, Born effective charges and force deviations per atom");
    styles.add<FixQNEPConp>("fix", "qnep/conp", "electrodes at constant potential or charge");
    styles.add<FixQNEPEfield>("fix", "qnep/efield", "uniform electric field through Born effective charges");
}
