"""Ab initio dynamics against the policies of the active learner: same start, same reference, same simulated time.

All lies in one folder. Ab initio dynamics that was interrupted goes on from its last step, a policy that was not
finished begins anew, and what is finished is not run again.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.neighborlist import natural_cutoffs, neighbor_list
from harness import table

from qnep import QNEP, Committee
from qnep.dft import Pool
from qnep.dft.backends import backend_settings, make_reference
from qnep.files import write_atomically
from qnep.learn import State
from qnep.learn.dynamics import REFERENCE, Dynamics, Snapshot, TurnTaker
from qnep.learn.explain import OVERHEAD

TEMPERATURE = 350.0  # K
TIMESTEP_FS = 1.0
FRICTION = 0.01  # 1/fs

CONFIGURATION = """\
policy = "{policy}"
structure = "start.extxyz"
seed = 1

[dynamics]
temperature = {temperature}
timestep_fs = {timestep_fs}
friction = {friction}
check_interval = 10
write_interval = {stride}

[start]
n_perturbed = {n_perturbed}
amplitude = 0.05

[reference]
backend = "{backend}"
{reference}

[gates]
tolerated_error = {tolerated_error}
{gates}

[options]
n_steps = {n_steps}
{options}

[model]
elements = {elements}
cutoff = [5.0, 3.5]
n_max = [4, 4]
neurons = 20

[training]
members = {members}
epochs = 120
batch_size = 4
warm_up_steps = 50
device = "cpu"

[trainer]
fine_tune_epochs = 20
"""

POLICIES: dict[str, dict[str, Any]] = {
    "aofl": {
        "tolerated_error": 1.0,
        "gates": "",
        "options": "retrain_after = 5\nretrain_error = 3.0",
        "members": 2,
    },
    "haml": {
        "tolerated_error": 1.5,
        "gates": "threshold = [1.3, 1.1, 10.0]",
        "options": "window = 6\nkeep_every = 2",
        "members": 2,
    },
    "interface-reactor": {
        "tolerated_error": 2.0,
        "gates": "threshold = [0.8, 0.2, 2.0]",
        "options": "first_steps = 100\ngrowth = 4.0\nrewind_steps = 20\nwindow = 10\nkeep_every = 2",
        "members": 2,
    },
}


@dataclass(frozen=True)
class Contest:
    """What all runs have in common.

    Parameters
    ----------
    make_start : the structure that all begin with.
    backend, settings : of the reference, and what is changed of its preset.
    n_steps : of 1 fs.
    stride : steps between two frames that are kept.
    n_perturbed : moved copies of the structure that a learner labels before its first model.
    """

    make_start: Callable[[], Atoms]
    backend: str
    n_steps: int
    stride: int
    n_perturbed: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def configuration(self, policy: str, **changes: Any) -> str:
        """Return the text of the configuration file of a policy."""
        values = {
            "policy": policy,
            "temperature": TEMPERATURE,
            "timestep_fs": TIMESTEP_FS,
            "friction": FRICTION,
            "stride": self.stride,
            "n_perturbed": self.n_perturbed,
            "backend": self.backend,
            "reference": _settings_line(self.settings),
            "n_steps": self.n_steps,
            "elements": json.dumps(sorted(set(self.make_start().get_chemical_symbols()))),
            **POLICIES[policy],
        }
        return CONFIGURATION.format(**values | changes)


def _settings_line(settings: Mapping[str, Any]) -> str:
    pairs = ", ".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    return f"settings = {{{pairs}}}" if pairs else ""


@dataclass(frozen=True)
class Run:
    """What a run cost and found: reference calls, wall and CPU s, frames, model files, state of the learner."""

    n_calls: int
    wall_s: float
    cpu_s: float
    frames: list[Atoms]
    models: list[Path] = field(default_factory=list)
    state: State | None = None


# --- the runs -----------------------------------------------------------------------------------------------------


def run_aimd(contest: Contest, folder: Path) -> Run:
    """Do the ab initio run, which is the test trajectory too: no learner has seen it.

    Its frames, and what the next step depends on, are on disk after every step, with the time spent so far.
    """
    settings = backend_settings(contest.backend, **contest.settings)
    turns = TurnTaker(make_reference(contest.backend, settings, folder / "aimd"))
    start = read(folder / "start.extxyz")
    dynamics = Dynamics(start, turns, TEMPERATURE, TIMESTEP_FS, FRICTION, seed=99)
    path, progress = folder / "aimd.extxyz", folder / "aimd.json"
    spent = {"wall_s": 0.0, "cpu_s": 0.0}
    if progress.exists():
        saved = json.loads(progress.read_text())
        dynamics.restore(Snapshot.from_dict(saved["snapshot"]))
        spent = saved["spent"]
    frames = read(path, ":")[: dynamics.step // contest.stride] if path.exists() else []
    before = (time.perf_counter(), _cpu_seconds())
    while dynamics.step < contest.n_steps:
        dynamics.advance(REFERENCE)
        if dynamics.step % contest.stride == 0:
            frame = dynamics.atoms.copy()
            frame.info = {"step": dynamics.step}
            frame.calc = SinglePointCalculator(frame, **turns.results)
            frames.append(frame)
            write_atomically(path, _as_extxyz(frames))
        now = (time.perf_counter(), _cpu_seconds())
        spent = {name: spent[name] + b - a for name, a, b in zip(spent, before, now)}
        before = now
        state = json.dumps({"snapshot": dynamics.snapshot().as_dict(), "spent": spent})
        write_atomically(progress, state)
    return Run(contest.n_steps, **spent, frames=frames)


def run_policy(contest: Contest, folder: Path, policy: str) -> Run:
    """Do the run of a policy from its configuration file, in a process of its own."""
    output, result = folder / policy, folder / f"{policy}.json"
    if not result.exists():
        shutil.rmtree(output, ignore_errors=True)
        configuration = folder / f"{policy}.toml"
        configuration.write_text(contest.configuration(policy))
        start, before = time.perf_counter(), _cpu_seconds()
        command = [sys.executable, "-m", "qnep.cli", "learn", configuration.name]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        spent = {"wall_s": time.perf_counter() - start, "cpu_s": _cpu_seconds() - before}
        write_atomically(result, json.dumps(spent))
    state = State.load(output)
    return Run(
        sum(1 for _ in Pool(output / "pool.db").frames()),
        **json.loads(result.read_text()),
        frames=last_pass(read(output / "trajectory.extxyz", ":")),
        models=[output / file for file in state.models],
        state=state,
    )


def run_all(contest: Contest, folder: Path) -> tuple[Run, dict[str, Run]]:
    """Return the ab initio run and those of the policies; the folder may hold some of them.

    Raises
    ------
    ValueError : the folder holds runs with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings, kept = "\n".join(map(contest.configuration, POLICIES)), folder / "settings.txt"
    if kept.exists() and kept.read_text() != settings:
        raise ValueError(f"{folder} holds runs with other settings: remove it, or name another one")
    kept.write_text(settings)
    write(folder / "start.extxyz", contest.make_start())
    return run_aimd(contest, folder), {
        policy: run_policy(contest, folder, policy) for policy in POLICIES
    }


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _as_extxyz(frames: list[Atoms]) -> str:
    text = io.StringIO()
    write(text, frames, format="extxyz")
    return text.getvalue()


def last_pass(frames: list[Atoms]) -> list[Atoms]:
    """Drop what was run again after a way back: each step once, as it was the last time."""
    kept: list[Atoms] = []
    for frame in frames:
        while kept and kept[-1].info["step"] >= frame.info["step"]:
            kept.pop()
        kept.append(frame)
    return kept


# --- what they are judged by --------------------------------------------------------------------------------------


def force_error(models: list[Path], frames: list[Atoms]) -> float:
    """Return the root mean square error of a force component, eV/Å."""
    paths = [str(path) for path in models]
    calculator = Committee(paths) if len(paths) > 1 else QNEP(paths[0])
    squares = []
    for frame in frames:
        atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True)
        atoms.calc = calculator
        squares.append((atoms.get_forces() - frame.get_forces()) ** 2)
    return float(np.sqrt(np.mean(squares)))


def bonds(atoms: Atoms) -> set[tuple[int, int]]:
    """Return pairs nearer than 1.25 sums of covalent radii."""
    first, second = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=1.25))
    return {(int(i), int(j)) for i, j in zip(first, second) if i < j}


def changed_bonds(run: Run) -> int:
    """Return the number of bonds made or broken from the first frame to the last."""
    return len(bonds(run.frames[0]) ^ bonds(run.frames[-1]))


# --- tables -------------------------------------------------------------------------------------------------------

Events = Mapping[str, Callable[[Run], int]]  # heading of a column and what it counts


def costs(whole: Run, runs: Mapping[str, Run], events: Events, dear_call_s: float | None) -> str:
    """Return the table of calls, times, errors and events; `dear_call_s`: CPU s of a call to calculate a column for."""
    call_s = whole.cpu_s / whole.n_calls
    header = [
        *("run", "reference calls", "calls saved", "CPU s", "s", "CPU saved", "times faster"),
        *([f"at {dear_call_s:.0f} s a call"] if dear_call_s else []),
        *("force error (eV/Å)", *events),
    ]
    n_empty = 4 if dear_call_s else 3
    rows = [
        [
            *("AIMD", whole.n_calls, "", f"{whole.cpu_s:.0f}", f"{whole.wall_s:.0f}"),
            *[""] * n_empty,
            *(count(whole) for count in events.values()),
        ]
    ]
    for policy, run in runs.items():
        rows.append(
            [
                policy,
                run.n_calls,
                f"{100 * (1 - run.n_calls / whole.n_calls):.1f} %",
                f"{run.cpu_s:.0f}",
                f"{run.wall_s:.0f}",
                f"{100 * (1 - run.cpu_s / whole.cpu_s):.0f} %",
                f"{whole.cpu_s / run.cpu_s:.1f}",
                *(
                    [f"{_with_dear_calls(whole, run, call_s, dear_call_s):.1f}"]
                    if dear_call_s
                    else []
                ),
                f"{force_error(run.models, whole.frames):.3f}",
                *(count(run) for count in events.values()),
            ]
        )
    return table(header, rows)


def _with_dear_calls(whole: Run, run: Run, call_s: float, dear_call_s: float) -> float:
    """Return how many times faster a run is with a reference of `dear_call_s` for each call."""
    rest_s = max(run.cpu_s - run.n_calls * call_s, 0.0)
    return whole.n_calls * dear_call_s / (run.n_calls * dear_call_s + rest_s)


def shares(runs: Mapping[str, Run]) -> str:
    """Return the table of where the learners' time went."""
    rows: list[Sequence[object]] = []
    for policy, run in runs.items():
        assert run.state is not None
        seconds = run.state.seconds
        total = sum(seconds.values())
        overhead = sum(seconds.get(name, 0.0) for name in OVERHEAD)
        parts = ("reference", "training", "ml", *OVERHEAD)
        rows.append(
            (
                policy,
                *(f"{seconds.get(name, 0.0):.1f}" for name in parts),
                f"{100 * overhead / total:.1f} %",
                f"{100 * (overhead + seconds['ml']) / total:.1f} %",
            )
        )
    dynamics = "models' dynamics"
    header = (
        *("run", "reference", "training", dynamics),
        *OVERHEAD,
        *("overhead", "with dynamics"),
    )
    return (
        "Where the time on the clock goes (s). Overhead of the loop (gates and disk), wanted: at most 5 %.\n\n"
        + table(header, rows)
    )
