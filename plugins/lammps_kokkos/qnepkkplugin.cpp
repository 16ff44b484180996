// Registers the styles of qnep with a LAMMPS that has KOKKOS; nothing else happens when the library is loaded.

#include "pair_qnep_kokkos.h"

#include "compute_qnep_atom.h"
#include "fix_qnep_conp.h"
#include "fix_qnep_efield.h"
#include "style_registration.h"

using namespace LAMMPS_NS;

void lammpsplugin_init(void *lammps, void *handle, void *register_function) {
    if (!is_made_for(lammps, "qnep Kokkos plugin", "pair_style qnep/kk")) {
        return;
    }
    StyleRegistration styles(lammps, handle, register_function);
    const char *const info = "neuroevolution potentials with charges (NEP, qNEP) on a device";
    styles.add_pair<PairQNEP>("qnep", "neuroevolution potentials with charges (NEP, qNEP)");
    styles.add_pair<PairQNEPKokkos<LMPDeviceType>>("qnep/kk", info);
    styles.add_pair<PairQNEPKokkos<LMPDeviceType>>("qnep/kk/device", info);
    styles.add_pair<PairQNEPKokkos<LMPHostType>>("qnep/kk/host", info);
    styles.add<ComputeQNEPAtom>("compute", "qnep/atom",
                                "electric potentials, Born effective charges and force deviations per atom");
    styles.add<FixQNEPConp>("fix", "qnep/conp", "electrodes at constant potential or charge");
    styles.add<FixQNEPEfield>("fix", "qnep/efield", "uniform electric field through Born effective charges");
}
