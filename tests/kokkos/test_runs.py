"""What engines do with the Kokkos style: move, exchange atoms between ranks, minimize, conserve, compare models."""

from __future__ import annotations

import numpy as np
import pytest
from kokkos_systems import ELEMENTS, write_system

from qnep import random_model

START = """
units metal
atom_style charge
newton on
read_data system.data
pair_style {style}
pair_coeff * * {coefficients}
neighbor 0.3 bin
neigh_modify every 1 delay 0 check yes
timestep 0.0005
thermo_modify norm no
"""
SOFT = {
    "radial_cutoff": 4.5,
    "angular_cutoff": 3.5,
    "n_max": (2, 2),
    "n_neurons": 10,
    "zbl": (1.0, 2.0),
    "energy_scale": 0.1,
    "charge_scale": 0.2,
    "seed": 5,
}
TABLE = """
dump atoms all custom 1 atoms.dump id xu yu zu fx fy fz q
dump_modify atoms sort id format float %.17g
run 0
"""


def start(style: str = "qnep kspace direct", coefficients: str = f"nep.txt {ELEMENTS}") -> str:
    return START.format(style=style, coefficients=coefficients)


def on_host_and_device(run, script, n_ranks=1):
    """Tables of atoms after a script with the host style, and with the one on the device."""
    tables = []
    for kokkos in (False, True):
        done = run(script, kokkos, n_ranks)
        assert done.status == 0, done.screen
        tables.append(done.table())
    return tables


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("style", ["qnep kspace direct", "qnep kspace pppm 1e-5"])
def test_trajectory(style, n_ranks, run, tmp_path):
    """Hot atoms that leave their rank, with a thin skin: lists are built anew often."""
    write_system(tmp_path, 60, (11.0, 11.0, 12.0), 0.0, charge_mode=2, **SOFT)
    script = (
        start(style)
        + "velocity all create 3000 3 mom yes loop geom\nfix 1 all nve\nthermo 5\nrun 40\n"
        + TABLE
    )
    tables = []
    for kokkos in (False, True):
        done = run(script, kokkos, n_ranks)
        assert done.status == 0, done.screen
        builds = [line for line in done.screen.splitlines() if "Neighbor list builds" in line]
        assert int(builds[0].split()[-1]) > 1
        tables.append(done.table())
    np.testing.assert_allclose(tables[1], tables[0], rtol=0, atol=1e-8)


def test_changing_box_and_minimizer(run, tmp_path):
    write_system(tmp_path, 60, (11.0, 11.0, 12.0), 0.0, charge_mode=1, **SOFT)
    script = (
        start("qnep kspace pppm 1e-5")
        + "fix 1 all nve\nrun 2\nchange_box all x scale 1.05 remap\nrun 2\nminimize 0 1e-2 5 10\n"
        + TABLE
    )
    tables = on_host_and_device(run, script)
    np.testing.assert_allclose(tables[1], tables[0], rtol=0, atol=1e-6)


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_mesh_follows_the_box_and_its_parts(n_ranks, run, tmp_path):
    """A box that grows by more than a tenth gets another mesh; parts of the box that move share it out anew."""
    write_system(tmp_path, 60, (9.0, 9.0, 12.0), 0.0, charge_mode=2, **SOFT)
    script = (
        start("qnep kspace pppm 1e-4")
        + "fix 1 all nve\nfix 2 all balance 2 1.0 shift z 5 1.0\n"
        + "fix 3 all deform 1 x scale 1.25 remap x\nrun 6\n"
        + TABLE
    )
    tables, meshes = [], []
    for kokkos in (False, True):
        done = run(script, kokkos, n_ranks)
        assert done.status == 0, done.screen
        tables.append(done.table())
        meshes.append([line.split() for line in done.screen.splitlines() if "  grid = " in line])
    assert len({tuple(words) for words in meshes[0]}) > 1
    assert {tuple(words) for words in meshes[1]} == {tuple(words) for words in meshes[0]}
    np.testing.assert_allclose(tables[1], tables[0], rtol=0, atol=1e-8)


HYBRID_RUN = """
atom_modify sort 1 2.0
compute energies all pe/atom
dump atoms all custom 40 atoms.dump id fx fy fz q c_energies
dump_modify atoms sort id format float %.17g
velocity all create 3000 3 mom yes loop geom
fix 1 all nve
run 40
"""


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_atoms_without_a_model_that_take_the_places_of_others(n_ranks, run, tmp_path):
    """Hot carbon below a hybrid style: its atoms have the energy of the other style alone, wherever they were put."""
    write_system(tmp_path, 60, (11.0, 11.0, 12.0), 0.0, charge_mode=2, **SOFT)
    script = (
        start("hybrid/overlay qnep kspace direct lj/cut 3.0", "qnep nep.txt Na NULL O")
        + "pair_coeff 1 2 lj/cut 0.001 1.5\npair_coeff 2 2 lj/cut 0.001 1.5\n"
        + "pair_coeff 2 3 lj/cut 0.001 1.5\n"
        + HYBRID_RUN
    )
    tables = on_host_and_device(run, script, n_ranks)
    sodium, carbon = (np.abs(tables[0][first::3, 4]) for first in (0, 1))
    assert carbon.max() < sodium.min()
    np.testing.assert_allclose(tables[1], tables[0], rtol=0, atol=1e-8)


@pytest.mark.mpi
@pytest.mark.parametrize(
    "place", ["kspace pppm 1e-4 kspace_on host", "kspace direct", "kspace pppm 1e-4"]
)
def test_tiles(place, run, tmp_path):
    """Parts of the box of recursive bisection, which move; the mesh on the device does not take them."""
    write_system(tmp_path, 60, (11.0, 11.0, 12.0), 0.0, charge_mode=2, **SOFT)
    bricks = (
        start(f"qnep {place}")
        + "velocity all create 3000 3 mom yes loop geom\nfix 1 all nve\n{balance}\nrun 20\n"
        + TABLE
    )
    tiles = bricks.replace("read_data", "comm_style tiled\nread_data")
    done = [
        run(script.replace("{balance}", balance), True, n_ranks=2)
        for script, balance in ((bricks, ""), (tiles, "fix 2 all balance 5 1.0 rcb"))
    ]
    assert done[0].status == 0, done[0].screen
    if place == "kspace pppm 1e-4":
        assert "wanted comm_style brick for a mesh on the device" in done[1].screen
    else:
        assert done[1].status == 0, done[1].screen
        np.testing.assert_allclose(done[1].table(), done[0].table(), rtol=0, atol=1e-8)


COMES_AND_GOES = """
region above block INF INF INF INF 9 12
fix go all evaporate 2 1 above 7
fix 1 all nve
thermo 1
run 6
"""


def test_mesh_where_atoms_go(run, tmp_path):
    """LAMMPS sums the charges anew when their number has changed, those that were lent to it."""
    write_system(tmp_path, 60, (11.0, 11.0, 12.0), 0.0, charge_mode=2, **SOFT)
    tables = on_host_and_device(
        run, start("qnep kspace pppm 1e-5 charge 0.5") + COMES_AND_GOES + TABLE
    )
    assert len(tables[0]) < 60
    np.testing.assert_allclose(tables[1], tables[0], rtol=0, atol=1e-8)


COMMITTEE = """
velocity all create 300 7 loop geom
fix dynamics all nve
timestep 0.0001
run 10
"""


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_committee(n_ranks, run, tmp_path):
    """Three models with the same elements in different orders and with different cutoffs, one without charges."""
    write_system(tmp_path, 24, (9.0, 9.0, 10.0), 0.0)
    options: list[dict] = [
        {"elements": "Na C O", "charge_mode": 2, "radial_cutoff": 5.0},
        {"elements": "O Na C", "charge_mode": 2, "radial_cutoff": 4.5},
        {"elements": "Na C O", "charge_mode": 0, "radial_cutoff": 5.5},
    ]
    for name, option in zip("abc", options):
        model = random_model(**option, seed=ord(name), energy_scale=0.2)
        model.write(str(tmp_path / f"{name}.txt"))
    style = "qnep kspace direct deviation deviation.txt 5"
    script = start(style, f"a.txt b.txt c.txt {ELEMENTS}") + COMMITTEE + TABLE
    tables, deviations = [], []
    for kokkos in (False, True):
        (tmp_path / "deviation.txt").unlink(missing_ok=True)
        done = run(script, kokkos, n_ranks)
        assert done.status == 0, done.screen
        tables.append(done.table())
        deviations.append(np.loadtxt(tmp_path / "deviation.txt"))
    np.testing.assert_array_equal(deviations[0][:, 0], [0, 5, 10])
    assert deviations[0][:, 1].min() > 0.01
    np.testing.assert_allclose(deviations[1], deviations[0], rtol=1e-6)
    np.testing.assert_allclose(tables[1], tables[0], rtol=0, atol=1e-8)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["double", "mixed"])
def test_energy_drift(precision, run, tmp_path):
    """2 ps at 300 K: the slope of the total energy stays below 2e-5 eV/atom/ps."""
    write_system(tmp_path, 60, (11.0, 11.0, 12.0), 0.0, charge_mode=2, **SOFT)
    script = start(f"qnep kspace direct precision {precision}") + (
        "minimize 0 1e-2 100 200\nreset_timestep 0\nvelocity all create 300 3 mom yes\nfix 1 all nve\n"
        "thermo_style custom step etotal\nthermo_modify format float %.15g norm no\nthermo 20\nrun 4000\n"
    )
    done = run(script)
    assert done.status == 0, done.screen
    table = done.thermo()
    assert len(table) == 201
    times, energies = table[:, 0] * 0.0005, table[:, 1] / 60
    slope = np.polyfit(times, energies, 1)[0]
    assert abs(slope) < 2e-5, f"{slope:.2e} eV/atom/ps"
