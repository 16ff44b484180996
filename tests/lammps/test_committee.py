"""Several models: the first drives, all are compared."""

from __future__ import annotations

import numpy as np
import pytest
from ase.io.lammpsdata import read_lammps_data
from lammps_scripts import write_data

from qnep import QNEP, random_model

ELEMENTS = "Na C O"
SCRIPT = """
units metal
atom_style charge
read_data system.data
pair_style qnep kspace direct deviation deviation.txt 5 {more}
pair_coeff * * a.txt b.txt c.txt Na C O
velocity all create 300 7
fix dynamics all nve
timestep 0.0001
compute v all qnep/atom deviation
dump atoms all custom 5 atoms.dump id x y z fx fy fz c_v
dump_modify atoms sort id format float %.17g
run 10
"""


@pytest.fixture
def committee(tmp_path, random_electrolyte):
    """Three models with the same elements in different orders and with different cutoffs, one without charges."""
    options = [
        {"elements": "Na C O", "charge_mode": 2, "radial_cutoff": 5.0},
        {"elements": "O Na C", "charge_mode": 2, "radial_cutoff": 4.5},
        {"elements": "Na C O", "charge_mode": 0, "radial_cutoff": 5.5},
    ]
    for name, option in zip("abc", options):
        random_model(**option, seed=ord(name), energy_scale=0.2).write(
            str(tmp_path / f"{name}.txt")
        )
    write_data(tmp_path / "system.data", random_electrolyte(24), ELEMENTS)


def expected(folder, positions):
    """Forces of the first model, and the deviation of each atom, from the core."""
    atoms = read_lammps_data(folder / "system.data", atom_style="charge", units="metal")
    atoms.positions[:] = positions
    forces = []
    for name in "abc":
        atoms.calc = QNEP(str(folder / f"{name}.txt"), kspace="ewald")
        forces.append(atoms.get_forces())
    spread = np.asarray(forces) - np.mean(forces, axis=0)
    return forces[0], np.sqrt((spread**2).sum(axis=2).mean(axis=0))


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_deviation_file_and_compute(n_ranks, committee, run_lammps, tmp_path):
    run = run_lammps(SCRIPT.format(more=""), n_ranks=n_ranks)
    assert run.status == 0, run.screen
    rows = run.table()
    forces, deviations = expected(tmp_path, rows[:, :3])
    np.testing.assert_allclose(rows[:, 3:6], forces, atol=1e-9)
    np.testing.assert_allclose(rows[:, 6], deviations, atol=1e-9)
    lines = (tmp_path / "deviation.txt").read_text().splitlines()
    assert lines[1] == "# step max_deviation min_deviation mean_deviation"
    table = np.loadtxt(tmp_path / "deviation.txt")
    np.testing.assert_array_equal(table[:, 0], [0, 5, 10])
    np.testing.assert_allclose(
        table[-1, 1:], [deviations.max(), deviations.min(), deviations.mean()], rtol=1e-6
    )


@pytest.mark.mpi
def test_members_follow_a_moving_division(committee, run_lammps):
    """Members that are evaluated now and then have a mesh that follows `balance` all the same."""
    script = (
        SCRIPT.format(more="")
        .replace("kspace direct", "kspace pppm 1e-4")
        .replace("deviation.txt 5", "deviation.txt 10")
        .replace("a.txt b.txt c.txt Na C O", "a.txt b.txt Na C O\nneighbor 0.5 bin")
        .replace(" c_v\n", "\n")
        .replace("read_data", "processors 2 1 1\nread_data")
        .replace("run 10\n", "")
    )
    balance = (
        "variable w atom 1+20*(x<3)\nfix load all balance 15 1.0 shift x 20 1.0 weight var w\n"
    )
    tables = []
    for more in ("", balance):
        run = run_lammps(f"{script}{more}run 40\n", n_ranks=2)
        assert run.status == 0, run.screen
        tables.append(np.loadtxt(run.folder / "deviation.txt"))
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-3)


def test_deviation_file_is_continued(committee, run_lammps, tmp_path):
    """With deviation_append the rows of an earlier run stay and the header is not repeated."""
    for more in ("", "deviation_append yes"):
        assert run_lammps(SCRIPT.format(more=more)).status == 0
    lines = (tmp_path / "deviation.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["#", "#", "0", "5", "10", "0", "5", "10"]


def test_rows_are_not_repeated_by_a_second_run_command(committee, run_lammps, tmp_path):
    assert run_lammps(SCRIPT.format(more="") + "run 5\n").status == 0
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "deviation.txt")[:, 0], [0, 5, 10, 15])


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_rows_of_other_structures_at_one_step_are_kept(n_ranks, committee, run_lammps, tmp_path):
    """Atoms that were moved, wrapped or not, another box, and other models at step 10; nothing new is no row."""
    more = "run 0\ndisplace_atoms all move 20 0 0 units box\nrun 0\nrun 0\n"
    more += "displace_atoms all random 0.05 0.05 0.05 7 units box\nrun 0\nrun 0\n"
    more += "change_box all x scale 1.02 remap\nrun 0\nwrite_data moved.data\nrun 0\n"
    more += "pair_coeff * * b.txt a.txt Na C O\nrun 0\n"
    run = run_lammps(SCRIPT.format(more="") + more, n_ranks=n_ranks)
    assert run.status == 0, run.screen
    table = np.loadtxt(tmp_path / "deviation.txt")
    np.testing.assert_array_equal(table[:, 0], [0, 5, 10, 10, 10, 10, 10])
    np.testing.assert_allclose(table[3], table[2], rtol=1e-6)  # all atoms moved together
    assert np.abs(np.diff(table[3:], axis=0)[:, 1:]).max(axis=1).min() > 1e-4
