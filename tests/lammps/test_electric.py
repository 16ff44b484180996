"""compute qnep/atom and fix qnep/efield: potentials, Born effective charges, a field through them."""

from __future__ import annotations

import numpy as np
import pytest
from ase.io.lammpsdata import read_lammps_data
from lammps_scripts import write_data

from qnep import QNEP, random_model

SCRIPT = """
units {units}
atom_style charge
read_data system.data
pair_style qnep kspace direct
pair_coeff * * nep.txt Na C O
{fix}
compute v all qnep/atom potential born
dump atoms all custom 1 atoms.dump id fx fy fz q c_v[*]
dump_modify atoms sort id format float %.17g
thermo_style custom step pe {thermo}
run 0
"""
KCAL_PER_EV = 23.060549  # in the unit styles of LAMMPS


@pytest.fixture
def structure(tmp_path, random_electrolyte):
    random_model("Na C O", charge_mode=1, radial_cutoff=5.0, seed=3).write(
        str(tmp_path / "nep.txt")
    )
    write_data(tmp_path / "system.data", random_electrolyte(30), "Na C O")
    atoms = read_lammps_data(tmp_path / "system.data", atom_style="charge", units="metal")
    atoms.calc = QNEP(str(tmp_path / "nep.txt"), kspace="ewald")
    return atoms


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_born_charges(n_ranks, structure, run_lammps):
    """Against the core; their sum is s times the total charge, here zero."""
    run = run_lammps(SCRIPT.format(units="metal", fix="", thermo=""), n_ranks=n_ranks)
    assert run.status == 0, run.screen
    born = run.table()[:, 5:14].reshape(-1, 3, 3)
    np.testing.assert_allclose(
        born, structure.calc.get_born_effective_charges(structure), atol=1e-10
    )
    np.testing.assert_allclose(born.sum(axis=0), 0.0, atol=1e-10)


def test_potentials_are_the_derivative_of_the_coulomb_energy(structure, run_lammps):
    """Euler's theorem for a quadratic form: sum q V = 2 E_el, and E_el is what the model adds to its networks."""
    run = run_lammps(SCRIPT.format(units="metal", fix="", thermo="ecoul"))
    rows = run.table()
    line = next(row for row in run.screen.splitlines() if row.split()[:1] == ["0"])
    coulomb_energy = float(line.split()[2])
    assert rows[:, 3] @ rows[:, 4] == pytest.approx(2.0 * coulomb_energy, rel=1e-6)


NO_EVALUATION = (
    "compute qnep/atom: wanted a force evaluation of the atoms as they are now, got none"
)
# LAMMPS does not ask a compute again that a dump of the run has asked at the same step.
UNUSED_COMPUTE = "compute later all qnep/atom potential born"
WRITE_DUMP = "write_dump all custom later.dump id c_later[*] modify sort id format float %.17g\n"
BETWEEN_RUNS = {
    "another pair style": (
        "pair_style qnep kspace direct\npair_coeff * * nep.txt Na C O",
        NO_EVALUATION,
    ),
    "no pair style": ("pair_style none", "wanted one pair_style qnep, got pair_style none"),
    "a style without charges": (
        "pair_style qnep\npair_coeff * * plain.txt Na C O",
        "potential and born: wanted a qNEP model to drive the run",
    ),
    "a new atom": ("create_atoms 1 single 0.1 0.2 0.3 units box", NO_EVALUATION),
    "no atoms": ("delete_atoms group all", NO_EVALUATION),
    "another atom": (
        "group last id 30\ndelete_atoms group last\ncreate_atoms 1 single 0.1 0.2 0.3 units box",
        NO_EVALUATION,
    ),
    "other elements": ("set atom 1 type 2", NO_EVALUATION),
    "moved atoms": ("displace_atoms all move 0.1 0 0 units box", NO_EVALUATION),
}


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("change", BETWEEN_RUNS)
def test_results_of_other_atoms_are_not_given(change, n_ranks, structure, run_lammps, tmp_path):
    """write_dump between two runs asks no style to prepare itself."""
    random_model("Na C O", radial_cutoff=5.0, seed=3).write(str(tmp_path / "plain.txt"))
    commands, message = BETWEEN_RUNS[change]
    script = SCRIPT.format(units="metal", fix=UNUSED_COMPUTE, thermo="")
    run = run_lammps(f"{script}{commands}\n{WRITE_DUMP}", n_ranks=n_ranks)
    assert run.status > 0, run.screen  # negative: a signal
    assert message in " ".join(run.screen.split()), run.screen


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_results_between_runs(n_ranks, structure, run_lammps):
    """After a run, and after `run 0` of atoms that came and went, those of the last evaluation."""
    script = SCRIPT.format(units="metal", fix=UNUSED_COMPUTE, thermo="")
    run = run_lammps(script + WRITE_DUMP, n_ranks=n_ranks)
    assert run.status == 0, run.screen
    wanted = run.table()[:, 4:]
    np.testing.assert_allclose(run.table("later.dump"), wanted, rtol=1e-12)
    more = "create_atoms 1 single 0.1 0.2 0.3 units box\ngroup last id 31\ndelete_atoms group last compress no\n"
    run = run_lammps(f"{script}{more}run 0\n{WRITE_DUMP}", n_ranks=n_ranks)
    assert run.status == 0, run.screen
    np.testing.assert_allclose(run.table("later.dump"), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.mpi
@pytest.mark.parametrize(("units", "unit"), [("metal", 1.0), ("real", KCAL_PER_EV)])
def test_field_adds_its_product_with_the_born_charges(units, unit, structure, run_lammps):
    field = np.array([0.1, -0.2, 0.3])
    without = run_lammps(SCRIPT.format(units=units, fix="", thermo="")).table()
    run = run_lammps(
        SCRIPT.format(units=units, fix="fix e all qnep/efield 0.1 -0.2 0.3", thermo="f_e[1]"),
        n_ranks=2,
    )
    assert run.status == 0, run.screen
    added = run.table()[:, :3] - without[:, :3]
    born = structure.calc.get_born_effective_charges(structure)
    np.testing.assert_allclose(added, unit * np.einsum("a,iab->ib", field, born), atol=1e-8 * unit)
    np.testing.assert_allclose(
        without[:, :3], unit * structure.get_forces(), rtol=1e-7, atol=1e-7 * unit
    )
