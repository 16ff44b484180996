"""Frames of dynamics in what the model is made for, to be labelled: `trajectories_*.extxyz.gz` of data/na_sei.

    python trajectories.py stage_2.txt 1000 1,4,10 test.extxyz      # held out
    python trajectories.py stage_2.txt 2000 2,7 train.extxyz        # other seeds, to be fitted
    qnep label test.extxyz --backend gpaw --pool labels.db

Sodium with one molecule of solvent and one NaPF6 between its two faces, electrolyte, and crystals, at 350 and 450 K.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bcc100, bulk
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE

from qnep import QNEP
from qnep.build import make_electrolyte, pack

LATTICE_CONSTANT = 4.2  # Å
WALL_GAP = 1.5  # Å, between the outermost metal atoms and the space of the molecules
TIMESTEP_FS = 0.5
TEMPERATURES = (350, 450)  # K
GRIDS = {
    "if_ec": "2x2x1",
    "if_dme": "2x2x1",
    "liq_ec": "1x1x1",
    "liq_dme": "1x1x1",
    "na": "3x3x3",
    "naf": "2x2x2",
}


def interface(solvent: str, height: float, seed: int) -> Atoms:
    """Return three layers of Na(100), a molecule and NaPF6 in `height` Å between them and their image."""
    atoms = bcc100("Na", (2, 2, 3), a=LATTICE_CONSTANT)
    top = atoms.positions[:, 2].max()
    lengths = [*atoms.cell.lengths()[:2], height]
    molecules = pack({solvent: 1, "Na+": 1, "PF6-": 1}, np.diag(lengths), seed, (True, True, False))
    molecules.positions[:, 2] += top + WALL_GAP
    atoms += molecules
    atoms.set_cell([*lengths[:2], top + height + 2 * WALL_GAP])
    return atoms


def build(kind: str, seed: int) -> Atoms:
    """Return the start of a trajectory."""
    match kind:
        case "if_ec":
            return interface("EC", 4.6, seed)
        case "if_dme":
            return interface("DME", 5.2, seed)
        case "liq_ec":
            return make_electrolyte({"EC": 1}, "NaPF6", 2.2, n_atoms=38, seed=seed)
        case "liq_dme":
            return make_electrolyte({"DME": 1}, "NaPF6", 2.0, n_atoms=40, seed=seed)
        case "na":
            return bulk("Na", "bcc", a=LATTICE_CONSTANT, cubic=True) * (2, 2, 2)
        case _:
            return bulk("NaF", "rocksalt", a=4.7, cubic=True) * (2, 1, 1)


def frames(
    model: Path, kind: str, temperature: int, seed: int, times_ps: list[float]
) -> list[Atoms]:
    """Run dynamics and return what is there at some times."""
    made = build(kind, seed)
    atoms = Atoms(made.numbers, made.positions, cell=made.cell, pbc=True)
    atoms.calc = QNEP(model)
    FIRE(atoms, logfile=None).run(fmax=0.5, steps=100)
    random = np.random.default_rng(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=random)
    dynamics = Langevin(
        atoms,
        TIMESTEP_FS * units.fs,
        temperature_K=temperature,
        friction=0.01 / units.fs,
        rng=random,
    )
    found = []
    for time_ps in times_ps:
        dynamics.run(round(1000 * time_ps / TIMESTEP_FS) - dynamics.nsteps)
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        frame.wrap()
        frame.info = {
            "config_type": f"traj_{kind}",
            "source": f"{model.resolve().parent.name}/{model.name}, NVT {temperature} K, {time_ps:g} ps",
            "time_ps": time_ps,
            "kpts": GRIDS[kind],
        }
        found.append(frame)
    return found


def main() -> None:
    """Write the frames of all kinds and temperatures, the early ones first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("times_ps", type=lambda text: [float(word) for word in text.split(",")])
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    found = []
    for number, kind in enumerate(GRIDS):
        for temperature in TEMPERATURES:
            seed = options.seed + 10 * number + temperature
            for frame in frames(options.model, kind, temperature, seed, options.times_ps):
                frame.info["trajectory"] = f"traj_{kind}_{temperature}_{options.seed}"
                found.append(frame)
    write(options.output, sorted(found, key=lambda frame: frame.info["time_ps"]))


if __name__ == "__main__":
    main()
