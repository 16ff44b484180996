"""Speed of training

Random structures with the density of an organic liquid at the hyperparameters of the published sodium studies (six
elements, 9 + 9 functions of a basis of 9, l up to 4 with 222 and 1111, 40 neurons; 60 radial, 27 angular neighbours).
Batches of 32, tables in single precision. A sample of 64 structures stands for 1,000: every batch costs the same. On a
machine with an NVIDIA card: an epoch of 5,000 structures of 136 atoms, the published size.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import torch
from harness import table

from qnep.train.frames import Frame
from qnep.train.loss import LossWeights
from qnep.train.settings import ModelSettings
from qnep.train.start import initial_parameters
from qnep.train.trainer import make_groups
from qnep.train.work import WorkPlan, make_work

BATCH_SIZE = 32
N_REPEATS = 6
"""Passes over the sample that are timed."""
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
    work = make_work(plan, n_processes)
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


def measure() -> str:
    """Return the Markdown of the section."""
    sample = random_structures(64, 110, density=0.06)
    rows = []
    for charge_mode in (0, 2):
        name = "mode 2" if charge_mode else "plain NEP"
        scale = 1000 / len(sample) / N_REPEATS
        seconds = {
            n: scale * seconds_per_epoch(sample, N_REPEATS, n, "cpu", charge_mode) for n in (1, 2)
        }
        for n, value in seconds.items():
            ratio = f"{seconds[1] / value:.2f}" if n > 1 else ""
            rows.append(
                (name, "1,000 of 110", f"{n} process{'es' * (n > 1)}", f"{value:.2f}", ratio)
            )
    if torch.cuda.is_available():
        sample = random_structures(256, 136, density=0.06)
        for charge_mode in (0, 2):
            scale = 5000 / len(sample) / N_REPEATS
            value = scale * seconds_per_epoch(sample, N_REPEATS, 1, "cuda", charge_mode)
            name = "mode 2" if charge_mode else "plain NEP"
            rows.append((name, "5,000 of 136", torch.cuda.get_device_name(), f"{value:.2f}", ""))
    return table(("model", "structures", "on", "s per epoch", "speed-up"), rows)


if __name__ == "__main__":
    print(measure())
