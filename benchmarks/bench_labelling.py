"""Building cells and labelling them: what the engine costs around the DFT code."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import table

from qnep.build import make_electrolyte
from qnep.dft import Labeller, Pool

N_FRAMES = 5
BACKEND = "tblite"
BUILDS = {
    "1,000 atoms": "interface --solid Na --solvent EC --salt NaPF6 --molarity 1 --atoms 1000",
    "27,000 atoms": "interface --solid Na --solvent EC --salt NaPF6 --molarity 1 --atoms 27000",
}


def measure() -> str:
    """Return the Markdown of the section."""
    return f"{_labelling()}\n\n{_building()}"


def _labelling() -> str:
    """CPU seconds of the same frames through the bare calculator and through the labelling engine.

    CPU time and not time on the clock: what other programs on the machine do hardly shows in it.
    """
    liquid = make_electrolyte({"EC": 1}, n_atoms=50, seed=1)
    liquid.info = {}
    frames = []
    for k in range(N_FRAMES):
        frame = liquid.copy()
        frame.rattle(0.05, rng=np.random.default_rng(k))
        frames.append(frame)
    bare = _cpu_of(_bare_calls, frames)
    engine = _cpu_of(_engine, frames)
    rows = [
        ("bare calculator", f"{bare:.2f}", "1"),
        ("qnep label", f"{engine:.2f}", f"{bare / engine:.3f}"),
    ]
    text = table(("route", "CPU s", "throughput"), rows)
    return (
        f"{N_FRAMES} frames of {len(liquid)} atoms (liquid EC), backend {BACKEND}, starts of Python included in both: "
        f"throughput relative to the bare calculator.\n\n{text}"
    )


def _bare_calls(frames: list) -> None:
    program = (
        "import pickle, sys\n"
        "from qnep.dft import get_backend\n"
        "calculator = get_backend('tblite')\n"
        "for atoms in pickle.load(sys.stdin.buffer):\n"
        "    atoms.calc = calculator\n"
        "    atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()\n"
    )
    subprocess.run([sys.executable, "-c", program], input=pickle.dumps(frames), check=True)


def _engine(frames: list) -> None:
    with tempfile.TemporaryDirectory() as folder:
        summary = Labeller(Pool(Path(folder) / "pool.db"), BACKEND).run(frames)
        if summary.n_labelled != len(frames):
            raise RuntimeError(f"labels failed: {summary.reasons}")


def _cpu_of(function, frames: list) -> float:
    """CPU seconds of this process and its children."""
    start = _cpu_seconds()
    function(frames)
    return _cpu_seconds() - start


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _building() -> str:
    rows = []
    for name, command in BUILDS.items():
        with tempfile.TemporaryDirectory() as folder:
            start, cpu = time.perf_counter(), _cpu_seconds()
            subprocess.run(
                [sys.executable, "-m", "qnep.cli", "build", *command.split(), "-o", "cell"],
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            seconds, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
        peak_MB = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
        rows.append((name, f"{seconds:.1f}", f"{cpu:.1f}", f"{peak_MB:.0f}"))
    return table(("Na(100) with 1 M NaPF6 in EC", "s", "s of CPU", "peak MB"), rows)
