"""fix qnep/conp against the ASE class, on several ranks, with ramps, restarts, PLUMED and wrong input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.io.lammpsdata import read_lammps_data
from electrode_cells import charged_model, membership, two_electrodes
from lammps_scripts import BAR_PER_EV, write_data

from qnep import QNEP
from qnep.electrode import ConstantPotential, Electrode, FixedMembership
from qnep.model import random_model

BASES = {"induced": "kspace direct", "equilibrated": ""}
POTENTIALS = {"induced": (-1.0, 1.5), "equilibrated": (-2.0, 6.0)}
VOLTAGES = "electrode lower potential {0} electrode upper potential {1}"
GROUPS = "electrode lower potential {0} group lower electrode upper potential {1} group upper"

SCRIPT = """
units {units}
atom_style charge
boundary {boundary}
{before}
read_data system.data
pair_style {style}
pair_coeff * * {coefficients}
group lower id 1:16
group upper id 17:32
neighbor 1.0 bin
timestep 0.0005
thermo_style custom step pe
{fix}
{run}
"""

EVALUATION = """
compute virial all pressure NULL virial
variable to_ev equal vol/{bar:.17g}
dump atoms all custom 1 atoms.dump id fx fy fz q f_cell[1] f_cell[2]
dump_modify atoms sort id format float %.17g
thermo_style custom step pe c_virial[1]
run 0
print "ENERGY: $(pe:%.17g) $(f_cell:%.17g)"
print "FIX: $(f_cell[1]) $(f_cell[2]) $(f_cell[3]:%.17g)"
print "LOWER: $(f_cell[4]:%.17g) $(f_cell[5]:%.17g)"
print "UPPER: $(f_cell[6]:%.17g) $(f_cell[7]:%.17g)"
print "VIRIAL: $(c_virial[1]*v_to_ev:%.17g) $(c_virial[2]*v_to_ev:%.17g) $(c_virial[4]*v_to_ev:%.17g)"
""".format(bar=BAR_PER_EV)


def script(scheme, settings, run=EVALUATION, **changes):
    """Input for the cell of `two_electrodes`; settings follow the elements of the fix."""
    values = {
        "units": "metal",
        "boundary": "p p p",
        "before": "",
        "style": f"qnep {BASES[scheme]}",
        "coefficients": "nep.txt F Na",
        "fix": f"fix cell all qnep/conp {scheme} F Na {settings}",
        "run": run,
    }
    return SCRIPT.format(**(values | changes))


def automatic(atoms: Atoms) -> str:
    """Keywords of the membership of `electrode_cells.membership`."""
    switch = membership(atoms)
    return (
        f"metal Na distances {switch.distances[0]} {switch.distances[1]} "
        f"counts {switch.counts[0]} {switch.counts[1]} "
        f"planes {switch.planes[0]:.17g} plane_width {switch.plane_width} "
    )


@pytest.fixture
def system(tmp_path):
    """Model and data file of a scheme; the atoms as LAMMPS reads them, some wrapped through the vacuum."""

    def write(scheme):
        model = (
            charged_model()
            if scheme == "induced"
            else random_model(
                "Na F",
                radial_cutoff=5.0,
                angular_cutoff=4.0,
                n_max=(2, 2),
                basis_size=(4, 4),
                seed=2,
            )
        )
        model.write(str(tmp_path / "nep.txt"))
        write_data(tmp_path / "system.data", two_electrodes(), "F Na")
        atoms = read_lammps_data(tmp_path / "system.data", atom_style="charge", units="metal")
        return atoms

    return write


def reference(atoms, scheme, tmp_path, groups=None, electrodes=None, **settings):
    """The ASE calculator of the same cell."""
    electrodes = electrodes or [
        Electrode(name, potential_V=potential)
        for name, potential in zip(("lower", "upper"), POTENTIALS[scheme])
    ]
    base = {"kspace": "ewald"} if scheme == "induced" else {}
    values = {"kspace": "ewald", "tolerance": 1e-10} | settings
    return ConstantPotential(
        QNEP(str(tmp_path / "nep.txt"), **base),
        electrodes,
        groups or membership(atoms),
        scheme=scheme,
        **values,
    )


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2, 4])
@pytest.mark.parametrize("scheme", BASES)
def test_equals_the_ase_class(scheme, n_ranks, system, run_lammps, tmp_path):
    """Energy, forces, charges, virial and electrode charges, with atoms in the middle of the switch."""
    atoms = system(scheme)
    settings = VOLTAGES.format(*POTENTIALS[scheme]) + " " + automatic(atoms)
    run = run_lammps(script(scheme, settings + "kspace ewald tolerance 1e-10"), n_ranks=n_ranks)
    assert run.status == 0, run.screen
    atoms.calc = reference(atoms, scheme, tmp_path)
    rows = run.table()
    np.testing.assert_allclose(rows[:, :3], atoms.get_forces(), rtol=0, atol=1e-8)
    np.testing.assert_allclose(rows[:, 3], atoms.get_charges(), rtol=0, atol=1e-8)
    results = atoms.calc.results
    assert run.value("ENERGY")[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    for name, charge, potential in zip(
        ("LOWER", "UPPER"), results["electrode_charges"], results["electrode_potentials"]
    ):
        assert run.value(name)[0] == pytest.approx(charge, abs=1e-8)
        assert run.value(name)[1] == pytest.approx(potential, abs=1e-12)
    virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
    expected = [virial[0, 0], virial[1, 1], virial[0, 1]]
    np.testing.assert_allclose(run.value("VIRIAL"), expected, rtol=1e-6, atol=1e-6)
