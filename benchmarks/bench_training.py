"""Training

Data: `python benchmarks/bench_training.py --help`. The PbTe set is GPUMD's example `qnep_train` (25 structures of 250
atoms; set QNEP_SHARED_DATA to the folder that holds it); GPUMD's own result there after 20,000 generations is
0.449 meV/atom and 39.2 meV/Å with charges and 0.414 / 39.9 without. The speed: bench_training_speed.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path

import torch
from harness import table

from qnep.train.settings import read_settings
from qnep.train.trainer import train

SHARED_DATA = Path(os.environ.get("QNEP_SHARED_DATA", "../shared/data"))
EPOCHS = {0: 300, 2: 500}
"""Of the fits to PbTe, by charge mode."""


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


def measure() -> str:
    """Return the Markdown of the section."""
    torch.set_num_threads(1)
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
    return (
        f"Fits to GPUMD's example, one thread, default settings, {EPOCHS[0]} epochs without charges and {EPOCHS[2]} "
        "with. GPUMD's own errors on the same 25 structures after 20,000 generations: 0.414 meV/atom and 39.9 meV/Å "
        "without charges, 0.449 and 39.2 with. No GPU was at hand.\n\n" + table(header, rows)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--charge-mode", type=int, default=2)
    parser.add_argument("--held-out", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=300)
    options = parser.parse_args()
    print(fit_lead_telluride(options.charge_mode, options.held_out, options.epochs))
