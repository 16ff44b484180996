"""Active learning with DFT: the three policies against ab initio dynamics of a small interface

GPAW, half an hour for ab initio dynamics alone and more. QNEP_BENCH_FOLDER names the folder in which runs that were
interrupted go on (build/bench_learn_gpaw).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bcc100
from learning_contest import (
    TEMPERATURE,
    TIMESTEP_FS,
    Contest,
    changed_bonds,
    costs,
    run_all,
    shares,
)

from qnep.build import make_molecule

FOLDER = Path(os.environ.get("QNEP_BENCH_FOLDER", "build/bench_learn_gpaw"))
LATTICE_CONSTANT = 4.2  # Å, of sodium
GAP = 2.5  # Å, between metal and molecule
CUTOFF_EV = 340.0


def make_start() -> Atoms:
    """Return ethylene carbonate, lying flat, between two layers of sodium (100) and their periodic image."""
    slab = bcc100("Na", (2, 2, 2), a=LATTICE_CONSTANT)
    molecule = make_molecule("EC", 1)
    positions = molecule.positions - molecule.positions.mean(axis=0)
    positions = positions @ np.linalg.svd(positions)[2].T  # its plane across z
    positions[:, :2] += 0.5 * slab.cell.lengths()[:2]
    positions[:, 2] += slab.positions[:, 2].max() + GAP - positions[:, 2].min()
    atoms = Atoms(slab.numbers, slab.positions) + Atoms(molecule.numbers, positions)
    height = np.ptp(atoms.positions[:, 2]) + GAP
    atoms.set_cell([*slab.cell.lengths()[:2], height])
    atoms.pbc = True
    atoms.wrap()
    return atoms


CONTEST = Contest(
    make_start,
    backend="gpaw",
    settings={"cutoff_eV": CUTOFF_EV, "kpts": [1, 1, 1]},
    n_steps=int(os.environ.get("QNEP_BENCH_LEARN_STEPS", "300")),
    stride=5,
    n_perturbed=15,
)


def measure() -> str:
    """Return the Markdown of the section."""
    whole, runs = run_all(CONTEST, FOLDER)
    n_molecule = len(make_molecule("EC", 1))
    return (
        f"{len(whole.frames[0]) - n_molecule} sodium atoms and ethylene carbonate, {TEMPERATURE:.0f} K, "
        f"{CONTEST.n_steps} steps of {TIMESTEP_FS:g} fs, reference GPAW (PBE-D3, plane waves of {CUTOFF_EV:.0f} eV, "
        f"Γ point: {whole.cpu_s / whole.n_calls:.1f} CPU s a call in ab initio dynamics, each step with the orbitals "
        "of the last). The rest as in the section above: same columns, same wanted numbers.\n\n"
        f"{costs(whole, runs, {'bonds changed': changed_bonds}, None)}\n\n{shares(runs)}"
    )
