"""Training

Data: `python benchmarks/bench_training.py --help`. The PbTe set is GPUMD's example `qnep_train` (25 structures of 250
atoms; set QNEP_SHARED_DATA to the folder that holds it); GPUMD's own result there after 20,000 generations is
0.449 meV/atom and 39.2 meV/Å with charges and 0.414 / 39.9 without. The speed is measured on random structures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from harness import table

from qnep.train.frames import Frame
from qnep.train.loss import LossWeights
from qnep.train.settings import ModelSettings, read_settings
from qnep.train.start import initial_parameters
from qnep.train.trainer import make_groups, train
from qnep.train.work import LocalWork, ParallelWork, WorkPlan

SHARED_DATA = Path(os.environ.get("QNEP_SHARED_DATA", "../shared/data"))
EPOCHS = {0: 300, 2: 500}
"""Of the fits to PbTe, by charge mode."""
BATCH_SIZE = 32
SODIUM = ModelSettings(
    ("C", "F", "H", "Na", "O", "P"),
    charge_mode=2,
    cutoff=(6.0, 5.0),
    n_max=(8, 8),
    basis_size=(8, 8),
    l_max=(4, 1, 1),
    neurons=40,
)
"""The hyperparameters of the published sodium studies."""


def fit_lead_telluride(charge_mode: int, n_held_out: int, epochs: int) -> tuple[str, ...]:
    """Train on GPUMD's example and return a row: errors, CPU and wall seconds."""
    settings = read_settings(SHARED_DATA / "qnep_train" / "nep.in")
    with tempfile.TemporaryDirectory() as folder:
        training = dataclasses.replace(
            settings.training,
            epochs=epochs,
            output=folder,
            device="cpu",
            test_fraction=n_held_out / 25,
        )
        model = dataclasses.replace(settings.model, charge_mode=charge_mode)
        settings = dataclasses.replace(settings, model=model, training=training)
        start, cpu_start = time.perf_counter(), time.process_time()
        train(settings, show_progress=False)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        errors = json.loads((Path(folder) / "errors.json").read_text())
    cells = [f"mode {charge_mode}" if charge_mode else "plain NEP", str(25 - n_held_out)]
    for part in ("training", "test"):
        all_errors = errors.get(part, {}).get("all")
        cells += (
            [f"{all_errors['energy_meV_per_atom']:.3f}", f"{all_errors['force_meV_per_A']:.1f}"]
            if all_errors
            else ["-", "-"]
        )
    return (*cells, f"{seconds:.0f}", f"{cpu_seconds:.0f}")


def random_structures(n_frames: int, n_atoms: int, density: float, seed: int = 0) -> list[Frame]:
    """Return structures of random composition with random labels; density in atoms/Å³."""
    random = np.random.default_rng(seed)
    edge = (n_atoms / density) ** (1 / 3)
    per_edge = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(per_edge)] * 3), axis=-1).reshape(-1, 3) / per_edge
    frames = []
    for index in range(n_frames):
        sites = grid[random.permutation(len(grid))[:n_atoms]] * edge
        frames.append(
            Frame(
                f"random {index}",
                random.integers(6, size=n_atoms),
                sites + random.normal(scale=0.1, size=(n_atoms, 3)),
                edge * np.eye(3),
                energy=float(random.normal()),
                forces=random.normal(size=(n_atoms, 3)),
            )
        )
    return frames


def seconds_per_epoch(
    frames: list[Frame], n_repeats: int, n_processes: int, device: str, charge_mode: int
) -> float:
    """Return the seconds of one pass over `n_repeats` times the structures, in batches of BATCH_SIZE."""
    model = dataclasses.replace(SODIUM, charge_mode=charge_mode).make_model()
    vector, scalers = initial_parameters(model, frames[:16], 0, False)
    parameters = np.zeros(model.n_parameters)
    parameters[model.scaler_offset :] = scalers
    model.parameters = parameters
    plan = WorkPlan(
        model.format(),
        frames,
        make_groups(len(frames), BATCH_SIZE, 0),
        LossWeights(virial=0.0),
        "single",
        device,
        1e11,
    )
    torch.set_num_threads(1)
    work = ParallelWork(plan, n_processes) if n_processes > 1 else LocalWork(plan)
    point = torch.from_numpy(vector).to(device=device, dtype=torch.float32)
    scales = {"energy": 0.1, "force": 0.5, "charge": 0.1}
    try:
        counts = [work.counts(number) for number in range(work.n_batches)]
        for number in range(work.n_batches):  # once without a clock
            work.gradient(point, number, scales, counts[number])
        start = time.perf_counter()
        for _ in range(n_repeats):
            for number in range(work.n_batches):
                work.gradient(point, number, scales, counts[number])
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start
    finally:
        work.close()


def measure_speed(n_structures: int = 1000, sample: int = 64) -> str:
    """Return the rows of the speed table; a sample stands for the whole set, every batch costs the same."""
    frames = random_structures(sample, 110, density=0.06)
    rows = []
    for charge_mode in (0, 2):
        name = "mode 2" if charge_mode else "plain NEP"
        seconds = {
            n: seconds_per_epoch(frames, 3, n, "cpu", charge_mode) / 3 * n_structures / sample
            for n in (1, 2)
        }
        rows.append((name, "110", "1", f"{seconds[1]:.2f}", ""))
        rows.append((name, "110", "2", f"{seconds[2]:.2f}", f"{seconds[1] / seconds[2]:.2f}"))
    return table(("model", "atoms", "processes", f"s per epoch of {n_structures}", "ratio"), rows)


def measure() -> str:
    """Return the Markdown of the section."""
    torch.set_num_threads(1)
    parts = [measure_speed()]
    if (SHARED_DATA / "qnep_train" / "train.xyz").exists():
        rows = [
            fit_lead_telluride(charge_mode, n_held_out, EPOCHS[charge_mode])
            for charge_mode in (0, 2)
            for n_held_out in (0, 5)
        ]
        header = (
            "model",
            "structures",
            "meV/atom",
            "meV/Å",
            "held out meV/atom",
            "meV/Å",
            "s",
            "CPU s",
        )
        parts.insert(0, table(header, rows))
    return "\n\n".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--charge-mode", type=int, default=2)
    parser.add_argument("--held-out", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--speed", action="store_true", help="only the time of an epoch")
    options = parser.parse_args()
    if options.speed:
        print(measure_speed())
    else:
        print(fit_lead_telluride(options.charge_mode, options.held_out, options.epochs))
