"""The demo: evaluates a model on a real structure and runs 1 ps of molecular dynamics, with a picture.

`make demo` runs it. What it writes goes to `demo/`: the trajectory and `demo.png`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.optimize import FIRE
from matplotlib import pyplot
from tqdm import trange

from qnep import QNEP, random_model
from qnep.model import Model, describe

OUTPUT = Path("demo")
TEMPERATURE = 300.0  # K
TIMESTEP_FS = 1.0
N_STEPS = 1000


def demo_model() -> Model:
    """The shipped model; where none is shipped, a made-up one of Na and F: weak interactions on ZBL repulsion."""
    shipped = sorted((Path(__file__).resolve().parents[1] / "models").glob("*/nep.txt"))
    if shipped:
        print(f"model: {shipped[0]}")
        return Model.read(str(shipped[0]))
    print("no shipped model found: taking a made-up one, whose numbers mean nothing")
    return random_model("Na F", charge_mode=2, zbl=(1.4, 2.8), energy_scale=0.1, charge_scale=0.3)


def demo_structure() -> Atoms:
    """Rock salt, 216 atoms at the measured lattice constant of NaF, 4.63 Å, slightly shaken."""
    atoms = bulk("NaF", "rocksalt", a=4.63, cubic=True).repeat(3)
    atoms.rattle(0.05, seed=0)
    return atoms


def run(
    atoms: Atoms,
) -> np.ndarray:  # [n_records, 4]: time in fs, total and potential energy in eV/atom, K
    """Langevin dynamics for 1 ps."""
    random = np.random.default_rng(0)
    thermalize_momenta(atoms, temperature_K=TEMPERATURE, rng=random)
    Stationary(atoms)
    dynamics = Langevin(
        atoms,
        TIMESTEP_FS * units.fs,
        temperature_K=TEMPERATURE,
        friction=0.005 / units.fs,
        fixcm=False,
        rng=random,
    )
    records, frames = [], []
    for step in trange(0, N_STEPS, 10, desc="1 ps of dynamics", unit="10 steps", disable=None):
        dynamics.run(10)
        energies = atoms.get_total_energy() / len(atoms), atoms.get_potential_energy() / len(atoms)
        records.append([(step + 10) * TIMESTEP_FS, *energies, atoms.get_temperature()])
        frames.append(atoms.copy())
    write(OUTPUT / "trajectory.xyz", frames, format="extxyz")
    return np.array(records)


def draw(records: np.ndarray, charges: np.ndarray, symbols: np.ndarray) -> None:
    """Energy, temperature and the charges of the last step."""
    time, total, potential, temperature = records.T
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    axes[0].plot(time, total, label="total")
    axes[0].plot(time, potential, label="potential")
    axes[0].set(xlabel="time, fs", ylabel="energy, eV/atom")
    axes[0].legend(frameon=False)
    axes[1].plot(time, temperature, color="C3")
    axes[1].axhline(TEMPERATURE, color="0.6", linewidth=0.8)
    axes[1].set(xlabel="time, fs", ylabel="temperature, K")
    for symbol in np.unique(symbols):
        axes[2].hist(charges[symbols == symbol], bins=20, alpha=0.7, label=symbol)
    axes[2].set(xlabel="charge, e", ylabel="atoms")
    axes[2].legend(frameon=False)
    figure.savefig(OUTPUT / "demo.png", dpi=120)


def main() -> None:
    """Evaluate, run, draw."""
    OUTPUT.mkdir(exist_ok=True)
    model, atoms = demo_model(), demo_structure()
    print("\n".join(f"{name:<18} {value}" for name, value in describe(model)))
    atoms.calc = QNEP(model)
    print(
        f"{len(atoms)} atoms: {atoms.get_potential_energy():.6f} eV, largest force "
        f"{np.abs(atoms.get_forces()).max():.2e} eV/Å"
    )
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=200)
    print(f"relaxed: {atoms.get_potential_energy():.6f} eV")
    records = run(atoms)
    draw(records, atoms.get_charges(), np.array(atoms.get_chemical_symbols()))
    print(f"written: {OUTPUT / 'trajectory.xyz'}, {OUTPUT / 'demo.png'}")


if __name__ == "__main__":
    main()
