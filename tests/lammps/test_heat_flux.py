"""compute heat/flux with centroid/stress/atom: the heat current of a many-body potential."""

from __future__ import annotations

import numpy as np
import pytest
from ase.io.lammpsdata import read_lammps_data
from lammps_scripts import write_data

from qnep import QNEP, random_model

ELEMENTS = "Na C O"
KINETIC = 1.0364269e-4  # eV of 1 u (Å/ps)^2, with the digits of LAMMPS (mvv2e of units metal)
SCRIPT = f"""
units metal
atom_style charge
read_data system.data
pair_style qnep {{kspace}}
pair_coeff * * nep.txt {ELEMENTS}
velocity all create 600 11 mom no
compute k all ke/atom
compute p all pe/atom
compute s all centroid/stress/atom NULL virial
compute j all heat/flux k p s
thermo_style custom step pe c_j[1]
dump atoms all custom 1 atoms.dump id x y z vx vy vz
dump_modify atoms sort id format float %.17g
run 0
print "HEAT_FLUX: $(c_j[1]:%.15g) $(c_j[2]:%.15g) $(c_j[3]:%.15g)"
"""


@pytest.fixture
def heat_flux(run_lammps, tmp_path):
    """Current times volume as LAMMPS computes it, eV Å/ps; the atoms with the core as calculator; velocities, Å/ps."""

    def compute(atoms, charge_mode: int, n_ranks: int):
        random_model(
            ELEMENTS, charge_mode=charge_mode, radial_cutoff=5.0, zbl=(0.7, 1.4), seed=3
        ).write(str(tmp_path / "nep.txt"))
        write_data(tmp_path / "system.data", atoms, ELEMENTS)
        kspace = "kspace direct" if charge_mode else ""
        run = run_lammps(SCRIPT.format(kspace=kspace), n_ranks=n_ranks)
        assert run.status == 0, run.screen
        atoms = read_lammps_data(tmp_path / "system.data", atom_style="charge", units="metal")
        rows = run.table()
        atoms.positions[:] = rows[:, :3]
        atoms.calc = QNEP(str(tmp_path / "nep.txt"), kspace="ewald")
        return run.value("HEAT_FLUX"), atoms, rows[:, 3:]

    return compute


def kinetic_energies(atoms, velocities: np.ndarray) -> np.ndarray:
    return 0.5 * KINETIC * atoms.get_masses() * (velocities**2).sum(axis=1)


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_current_of_a_cluster_is_the_motion_of_its_energy(n_ranks, heat_flux, random_electrolyte):
    """J = d/dt sum of r_i E_i, by differences of the core's energies along the motion; nothing crosses a boundary."""
    atoms = random_electrolyte(20, lengths=(6.0, 6.0, 6.0))
    atoms.set_cell([20.0, 21.0, 22.0])
    atoms.positions += 7.0
    current, atoms, velocities = heat_flux(atoms, 0, n_ranks)
    energies = atoms.get_potential_energies() + kinetic_energies(atoms, velocities)
    power = (atoms.get_forces() * velocities).sum(axis=1)
    step = 1e-5  # ps
    later, earlier = atoms.copy(), atoms.copy()
    later.positions += step * velocities
    earlier.positions -= step * velocities
    later.calc = earlier.calc = atoms.calc
    rates = (later.get_potential_energies() - earlier.get_potential_energies()) / (2.0 * step)
    expected = energies @ velocities + (rates + power) @ atoms.positions
    # truncation of the differences is about 1e-8 of the scale; the current itself is known to the digits of units
    np.testing.assert_allclose(current, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.mpi
@pytest.mark.parametrize("charge_mode", [0, 2])
def test_current_of_a_crystal_from_the_virials_of_the_core(
    charge_mode, heat_flux, random_electrolyte
):
    """J = sum of E_i v_i + W_i v_i, with all nine components of W_i."""
    current, atoms, velocities = heat_flux(random_electrolyte(40, tilt=2.5), charge_mode, 2)
    energies = atoms.get_potential_energies() + kinetic_energies(atoms, velocities)
    virials = atoms.calc.get_virials(atoms)
    expected = energies @ velocities + np.einsum("iab,ib->a", virials, velocities)
    np.testing.assert_allclose(current, expected, rtol=0, atol=1e-7 * np.abs(expected).max())
    symmetric = 0.5 * (virials + virials.transpose(0, 2, 1))
    wrong = energies @ velocities + np.einsum("iab,ib->a", symmetric, velocities)
    assert np.abs(wrong - expected).max() > 1e-3 * np.abs(expected).max()
