"""Train a charge model on structures labelled by another model, and see how good it is.

Shows the Python interface of the trainer: settings as objects, a held-out set, the errors and plots of a run. Takes
about a minute on one core. The labels come from Lennard-Jones-like argon, so nothing has to be downloaded; give a file
of your own labels as the first argument to train on that instead.
"""

import sys
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.io import write
from ase.md.langevin import Langevin

from qnep.train import LossWeights, ModelSettings, Settings, TrainingSettings, train

OUTPUT = Path("train_from_scratch")
ARGON = {"sigma": 3.4, "epsilon": 0.0104, "rc": 7.0, "smooth": True}


def sample_argon(path: Path) -> None:
    """Write three short trajectories of liquid argon at different temperatures."""
    frames = []
    for run, temperature in enumerate((60, 90, 150)):
        atoms = bulk("Ar", cubic=True, a=5.6) * (3, 3, 3)
        atoms.calc = LennardJones(**ARGON)
        random = np.random.default_rng(run)
        thermostat = Langevin(
            atoms, 5 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=random
        )
        for _ in range(8):
            thermostat.run(20)
            frame = atoms.copy()
            frame.calc = LennardJones(**ARGON)
            frame.get_forces()
            frame.get_stress()
            frame.info.update(
                trajectory=f"{temperature} K", config_type="liquid", level="Lennard-Jones"
            )
            frames.append(frame)
    write(path, frames, format="extxyz")


def main() -> None:
    OUTPUT.mkdir(exist_ok=True)
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT / "train.xyz"
    if len(sys.argv) < 2:
        sample_argon(data)
    settings = Settings(
        ModelSettings(("Ar",), cutoff=(7.0, 5.0), n_max=(4, 3), basis_size=(6, 6), neurons=10),
        TrainingSettings(data=(str(data),), validation_fraction=0.3, epochs=60, output=str(OUTPUT)),
        LossWeights(virial=0.1),
    )
    result = train(settings)
    print(f"Model, plots, errors and card: {result.folders[0].resolve()}")
    print((OUTPUT / "model_card.md").read_text().split("## Force")[0])


if __name__ == "__main__":
    main()
