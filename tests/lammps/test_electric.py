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
