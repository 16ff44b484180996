"""Fine-tuning

A model of 500 structures learns 10 structures of another kind. Labels come from GPUMD's PbTe example model, so that the
errors are those of the fit alone: 500 structures of 64 atoms near the crystal, 10 (and 20 for the test) with strong
disorder and strain. The gain is the fall of the force error on the test structures; a full retrain on all 510 sets it.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from harness import table

from qnep import QNEP, Model
from qnep.train.dataset import load_frames
from qnep.train.loss import LossWeights
from qnep.train.report import error_table, predict_frames
from qnep.train.settings import ModelSettings, Settings, TrainingSettings
from qnep.train.trainer import train

SHARED_DATA = Path(os.environ.get("QNEP_SHARED_DATA", "../shared/data"))
STUDENT = ModelSettings(
    ("Te", "Pb"), cutoff=(6.0, 4.0), n_max=(4, 4), basis_size=(6, 6), neurons=15
)
EPOCHS = 60
FINE_TUNING_EPOCHS = 200
N_REPLAYED = 90


def make_structures(n_frames: int, displacement: float, strain: float, seed: int) -> list[Atoms]:
    """Return labelled PbTe cells of 64 atoms with random displacements (Å) and strains."""
    random = np.random.default_rng(seed)
    calculator = QNEP(str(SHARED_DATA / "nep_train" / "nep.txt"))
    frames = []
    for index in range(n_frames):
        atoms = bulk("PbTe", "rocksalt", a=6.57, cubic=True) * (2, 2, 2)
        deformation = np.eye(3) + strain * random.uniform(-1, 1, size=(3, 3))
        atoms.set_cell(atoms.cell[:] @ deformation, scale_atoms=True)
        atoms.positions += displacement * random.normal(size=(len(atoms), 3))
        atoms.calc = calculator
        atoms.get_forces()
        atoms.get_stress()
        labelled = atoms.copy()
        labelled.calc = SinglePointCalculator(
            labelled,
            energy=atoms.get_potential_energy(),
            forces=atoms.get_forces(),
            stress=atoms.get_stress(),
        )
        labelled.info["trajectory"] = f"{seed}-{index}"
        frames.append(labelled)
    return frames


def force_error(model: Model, path: Path) -> float:
    """Return the force error on the structures of a file, meV/Å."""
    results = predict_frames(model, load_frames([path], model.elements))
    return error_table(results)["force_meV_per_A"]


def fit(data: list[Path], output: Path, **training: object) -> tuple[Model, float]:
    """Train the student; return it and the wall seconds, of two processes."""
    options = {"epochs": EPOCHS, "device": "cpu", "processes": 2, **training}
    options["data"] = tuple(map(str, data))
    settings = Settings(
        STUDENT, TrainingSettings(output=str(output), **options), LossWeights(virial=0.1)
    )
    start = time.perf_counter()
    result = train(settings, show_progress=False)
    return result.models[0], time.perf_counter() - start


def measure() -> str:
    """Return the Markdown of the section."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            "old": make_structures(500, 0.08, 0.01, seed=1),
            "new": make_structures(10, 0.35, 0.06, seed=2),
            "test": make_structures(20, 0.35, 0.06, seed=3),
        }
        for part, frames in files.items():
            write(folder / f"{part}.xyz", frames, format="extxyz")
        old, new, test = (folder / f"{part}.xyz" for part in files)
        base, base_seconds = fit([old], folder / "base")
        tuned, tuned_seconds = fit(
            [new],
            folder / "tuned",
            fine_tune=str(folder / "base" / "nep.txt"),
            replay=(str(old),),
            n_replay=N_REPLAYED,
            epochs=FINE_TUNING_EPOCHS,
            learning_rate=5e-3,
            warm_up_steps=20,
        )
        whole, whole_seconds = fit([old, new], folder / "whole")
        models = {"500 old": base, "fine-tuned with 10 new": tuned, "retrained on 510": whole}
        errors = {
            title: (force_error(model, test), force_error(model, old))
            for title, model in models.items()
        }
    before, after, best = (pair[0] for pair in errors.values())
    rows = [
        (title, f"{new_error:.1f}", f"{old_error:.1f}", f"{seconds:.0f}")
        for (title, (new_error, old_error)), seconds in zip(
            errors.items(), (base_seconds, tuned_seconds, whole_seconds)
        )
    ]
    share = 100 * (before - after) / (before - best)
    header = ("model", "new kind, test (meV/Å)", "old kind (meV/Å)", "s, two processes")
    return (
        table(header, rows)
        + f"\n\nFine-tuning reached {share:.0f} % of the gain of the full retrain."
    )


if __name__ == "__main__":
    print(measure())
