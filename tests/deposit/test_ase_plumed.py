"""ASE's Plumed calculator around QNEP through the helper: the same bias as in LAMMPS, and runs that go on."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from lammps_inputs import script, write_data

from qnep import QNEP
from qnep.deposit import plumed_calculator
from qnep.model import random_model

PLUMED = """UNITS LENGTH=A ENERGY=eV TIME=ps
d: DISTANCE ATOMS=1,2
hills: METAD ARG=d PACE=5 HEIGHT=0.02 SIGMA=0.2 TEMP=300 BIASFACTOR=6 FILE=HILLS
RESTRAINT ARG=d AT=2.0 KAPPA=0.5
PRINT ARG=d,hills.bias STRIDE=1 FILE=COLVAR FMT=%.12g
"""


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Twenty-four atoms with velocities, and their model; in a folder of their own."""
    pytest.importorskip("plumed", reason="no PLUMED kernel: pip install --no-deps hillclimber")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plumed.dat").write_text(PLUMED)
    model = random_model(
        "Na", radial_cutoff=4.5, angular_cutoff=4.0, n_max=(2, 2), basis_size=(4, 4), seed=3
    )
    model.write("nep.txt")
    places = np.stack(np.meshgrid(range(4), range(3), range(2)), -1).reshape(-1, 3) * 3.2
    atoms = Atoms("Na24", places, cell=[12.8, 9.6, 9.6], pbc=True)
    atoms.positions += np.random.default_rng(1).uniform(-0.2, 0.2, atoms.positions.shape)
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(2))
    return atoms


def run(atoms, n_steps, restart_step=None):
    """Steps of constant energy with the bias; the potential energy at the end, eV."""
    atoms.calc = plumed_calculator(
        atoms, QNEP("nep.txt"), "plumed.dat", 1.0, 300.0, "plumed.log", restart_step
    )
    VelocityVerlet(atoms, 1.0 * units.fs).run(n_steps)
    energy = atoms.get_potential_energy()
    atoms.calc.plumed.finalize()  # PLUMED writes its files to the end
    return energy


def test_same_bias_as_in_lammps(system, tmp_path, run_lammps):
    write_data(tmp_path / "frame.data", system)
    style = "pair_style qnep\npair_coeff * * nep.txt Na"
    in_lammps = run_lammps(script(style, "run 0"))
    assert in_lammps.status == 0, in_lammps.output
    system.calc = plumed_calculator(system, QNEP("nep.txt"), "plumed.dat", 1.0, 300.0, "plumed.log")
    np.testing.assert_allclose(in_lammps.dump()[:, 4:7], system.get_forces(), rtol=0, atol=1e-8)
    energy = in_lammps.thermo()["PotEng"][0]
    assert system.get_potential_energy() == pytest.approx(energy, abs=1e-8)


def test_a_restarted_run_goes_the_same_way(system, tmp_path):
    """Twelve steps and eight more, with the hills of the first part, are twenty."""
    other = system.copy()
    whole = run(system, 20)
    expected = np.loadtxt("COLVAR"), np.loadtxt("HILLS")
    for name in ("COLVAR", "HILLS"):
        (tmp_path / name).unlink()
    run(other, 12)
    resumed = run(other, 8, restart_step=12)
    np.testing.assert_allclose(other.positions, system.positions, rtol=0, atol=1e-8)
    assert resumed == pytest.approx(whole, abs=1e-7)
    hills = np.loadtxt("HILLS")
    np.testing.assert_allclose(hills, expected[1], rtol=1e-6, atol=1e-8)
    rows = {row[0]: row for row in np.loadtxt("COLVAR")}
    np.testing.assert_allclose(
        np.array([rows[time] for time in sorted(rows)]), expected[0], rtol=1e-7, atol=1e-7
    )
