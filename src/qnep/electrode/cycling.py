"""Charge and discharge of a two-electrode cell by molecular dynamics, with reversal of the polarity."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from ase import Atoms, units
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.optimize import FIRE
from tqdm import tqdm

from qnep._optional import require
from qnep.electrode.constant_potential import ConstantPotential
from qnep.electrode.deposits import Deposits, measure_deposits
from qnep.electrode.membership import CoordinationMembership
from qnep.electrode.slab import unwrap
from qnep.files import write_atomically

logger = logging.getLogger(__name__)

TABLE = "cycling.csv"
STATE = "state.extxyz"
TRAJECTORY = "trajectory.extxyz"
FIGURE = "cycling.png"
SIZES = {TABLE: "table_bytes", TRAJECTORY: "trajectory_bytes"}  # in the state's info


@dataclass(frozen=True)
class CyclingProtocol:
    """How a cell is cycled.

    Parameters
    ----------
    potentials_V : of the lower and the upper electrode in the first half cycle; they change places with every half
        cycle.
    n_half_cycles : in all.
    half_cycle_ps, timestep_fs, temperature_K, friction_per_ps : of the dynamics (Langevin).
    report_fs : time between rows of the table; also of the saved state.
    seed : of velocities and thermostat.
    relax_steps : at most, of a minimisation before the first step; a packed cell heats up without it.
    """

    potentials_V: tuple[float, float] = (-1.0, 1.0)
    n_half_cycles: int = 4
    half_cycle_ps: float = 300.0
    timestep_fs: float = 1.0
    temperature_K: float = 300.0
    friction_per_ps: float = 1.0
    report_fs: float = 100.0
    seed: int = 0
    relax_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("half_cycle_ps", "timestep_fs", "temperature_K", "friction_per_ps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.relax_steps < 0:
            raise ValueError(f"relax_steps must not be negative, got {self.relax_steps}")
        if self.n_half_cycles < 1:
            raise ValueError(f"n_half_cycles must be at least 1, got {self.n_half_cycles}")
        if self.report_fs < self.timestep_fs:
            raise ValueError(
                f"report_fs must not be shorter than a step, got {self.report_fs} and {self.timestep_fs}"
            )

    @property
    def steps_per_report(self) -> int:
        return round(self.report_fs / self.timestep_fs)

    @property
    def reports_per_half_cycle(self) -> int:
        return max(1, round(1000 * self.half_cycle_ps / (self.steps_per_report * self.timestep_fs)))

    def potentials_at(self, report: int) -> tuple[float, float]:
        """Potentials during the interval that leads to this report (the first is 1)."""
        lower, upper = self.potentials_V
        is_reversed = ((report - 1) // self.reports_per_half_cycle) % 2 == 1
        return (upper, lower) if is_reversed else (lower, upper)


class Cycling:
    """A run in a folder that can be stopped or killed at any time and resumed.

    The state is replaced in one move after table and trajectory and holds their sizes: what a killed run wrote behind
    these is cut off.

    Parameters
    ----------
    atoms : start; ignored if the folder holds a state and `resume` is set.
    calculator : with two electrodes, lower and upper.
    membership : the same that the calculator uses.
    protocol : see `CyclingProtocol`. Like calculator and membership it must be that of the start when a run is resumed,
        `n_half_cycles` apart; `qnep electrode` keeps them in a file and sees to it.
    folder : for table, state, trajectory and figure.
    resume : go on from the saved state.

    Raises
    ------
    ValueError : the calculator has not two electrodes, the folder holds a run and `resume` is not set, or that run was
        made by an older version of qnep.
    """

    def __init__(
        self,
        atoms: Atoms,
        calculator: ConstantPotential,
        membership: CoordinationMembership,
        protocol: CyclingProtocol,
        folder: Path,
        resume: bool = False,
    ):
        if len(calculator.electrodes) != 2:
            raise ValueError(f"cycling needs two electrodes, got {len(calculator.electrodes)}")
        self._folder = folder
        self._calculator = calculator
        self._membership = membership
        self._protocol = protocol
        self._done: int | None = None  # reports; the one of the start has number 0
        self._sizes = dict.fromkeys(SIZES, 0)  # bytes that belong to the reports that are done
        folder.mkdir(parents=True, exist_ok=True)
        start = atoms
        if resume and (folder / STATE).exists():
            atoms = cast(Atoms, read(folder / STATE))
            if not set(SIZES.values()) <= set(atoms.info):
                raise ValueError(
                    f"{folder / STATE} was written by an older version of qnep: start a new run from it, "
                    "in another folder"
                )
            self._done = int(atoms.info["report"])
            self._sizes = {name: int(atoms.info[key]) for name, key in SIZES.items()}
            start = cast(Atoms, read(folder / TRAJECTORY, index=0))
        else:
            require_no_run(folder)
        self.atoms = atoms
        self._start_metal = self._metal(start)
        atoms.calc = calculator

    def run(self) -> None:
        """Run to the end of the protocol; the figure is drawn at the end."""
        protocol = self._protocol
        if self._done is None:
            self._start()
        done = self._done or 0
        total = protocol.n_half_cycles * protocol.reports_per_half_cycle
        for report in tqdm(range(done + 1, total + 1), desc="cycling", unit="report"):
            self._advance(report)
        draw_cycling(self._folder)

    def _start(self) -> None:
        from ase.md.velocitydistribution import thermalize_momenta

        self._set_potentials(1)
        if self._protocol.relax_steps:
            FIRE(self.atoms, logfile=None, maxstep=0.05).run(
                fmax=0.1, steps=self._protocol.relax_steps
            )
        self._start_metal = self._metal(self.atoms)  # as a resumed run finds it in the first frame
        generator = np.random.default_rng(self._protocol.seed)
        thermalize_momenta(self.atoms, temperature_K=self._protocol.temperature_K, rng=generator)
        self._record(0)

    def _advance(self, report: int) -> None:
        """Dynamics up to a report."""
        protocol = self._protocol
        self._set_potentials(report)
        dynamics = Langevin(
            self.atoms,
            protocol.timestep_fs * units.fs,
            temperature_K=protocol.temperature_K,
            friction=protocol.friction_per_ps / (1000 * units.fs),
            fixcm=False,  # keeping the centre of mass would not sample the ensemble
            rng=np.random.default_rng([protocol.seed, report]),  # a resumed run goes the same way
        )
        dynamics.run(protocol.steps_per_report)
        self._record(report)

    def _record(self, report: int) -> None:
        """Write table, trajectory and state, in this order."""
        row, snapshot = self._row(report), self._snapshot(report)
        with self._appended(TABLE) as file:
            table = csv.DictWriter(file, row)
            if report == 0:
                table.writeheader()
            table.writerow(row)
        with self._appended(TRAJECTORY) as file:
            write(file, snapshot, format="extxyz")
        snapshot.info |= {key: self._sizes[name] for name, key in SIZES.items()}
        state = io.StringIO()
        write(state, snapshot, format="extxyz")
        write_atomically(self._folder / STATE, state.getvalue())
        self._done = report

    @contextmanager
    def _appended(self, name: str) -> Iterator[TextIO]:
        """A file open at the end of what belongs to the last state; what lies behind, a killed run left there."""
        path = self._folder / name
        path.touch()
        os.truncate(path, self._sizes[name])
        with path.open("a", encoding="utf-8", newline="") as file:
            yield file
        self._sizes[name] = path.stat().st_size

    def _set_potentials(self, report: int) -> None:
        for electrode, potential in zip(
            self._calculator.electrodes, self._protocol.potentials_at(report)
        ):
            if electrode.potential_V != potential:
                self._calculator.set_potential(electrode.name, potential)

    def _snapshot(self, report: int) -> Atoms:
        snapshot = self.atoms.copy()
        snapshot.arrays["charges"] = self.atoms.get_charges()
        snapshot.info = {"report": report, "time_fs": self._time_fs(report)}
        return snapshot

    def _time_fs(self, report: int) -> float:
        return report * self._protocol.steps_per_report * self._protocol.timestep_fs

    def _row(self, report: int) -> dict[str, Any]:
        atoms = self.atoms
        energy = atoms.get_potential_energy()
        results = self._calculator.results
        metal = self._metal(atoms)
        plated = metal.electrode_atoms - self._start_metal.electrode_atoms
        layers = plated / np.maximum(self._start_metal.layer_atoms, 1)
        return {
            "time_ps": self._time_fs(report) / 1000,
            "lower_V": results["electrode_potentials"][0],
            "upper_V": results["electrode_potentials"][1],
            "lower_charge": results["electrode_charges"][0],
            "upper_charge": results["electrode_charges"][1],
            "energy_eV": energy,
            "temperature_K": atoms.get_temperature(),
            "n_iterations": results["n_iterations"],
            "lower_atoms": metal.electrode_atoms[0],
            "upper_atoms": metal.electrode_atoms[1],
            "lower_plated_layers": layers[0],
            "upper_plated_layers": layers[1],
            "isolated_clusters": metal.n_isolated_clusters,
            "isolated_atoms": metal.n_isolated_atoms,
            "lower_roughness_A": metal.roughness[0],
            "upper_roughness_A": metal.roughness[1],
        }

    def _metal(self, atoms: Atoms) -> Deposits:
        axis = self._membership.axis
        fractions = unwrap(atoms.positions, atoms.cell.array, axis, self._membership.planes)[1]
        weights = self._membership.weights(atoms, fractions).values
        return measure_deposits(
            atoms, weights, list(self._membership.elements), self._membership.distances[0], axis
        )


def require_no_run(folder: Path) -> None:
    """Check that no run would be overwritten.

    Raises
    ------
    ValueError : the folder holds a run.
    """
    if (folder / STATE).exists():
        raise ValueError(f"{folder} holds a run already: resume it or choose another folder")


def read_cycling(folder: Path) -> Iterator[dict[str, float]]:
    """Yield the rows of a run's table as numbers."""
    with (folder / TABLE).open(newline="") as file:
        for row in csv.DictReader(file):
            yield {key: float(value) for key, value in row.items()}


def draw_cycling(folder: Path) -> None:
    """Draw voltage, charge, plated layers, roughness and isolated clusters against time."""
    pyplot = require("matplotlib.pyplot", extra="analysis")
    rows = list(read_cycling(folder))
    time = [row["time_ps"] for row in rows]

    def column(key: str) -> np.ndarray:
        return np.array([row[key] for row in rows])

    figure, axes = pyplot.subplots(5, 1, figsize=(5, 9), sharex=True, layout="constrained")
    axes[0].plot(time, column("upper_V") - column("lower_V"), color="#444444")
    axes[0].set_ylabel("voltage (V)")
    for name, color in (("lower", "#5e81ac"), ("upper", "#bf616a")):
        axes[1].plot(time, column(f"{name}_charge"), color=color, label=name)
        axes[2].plot(time, column(f"{name}_plated_layers"), color=color)
        axes[3].plot(time, column(f"{name}_roughness_A"), color=color)
    axes[1].set_ylabel("charge (e)")
    axes[1].legend(frameon=False)
    axes[2].set_ylabel("plated layers")
    axes[3].set_ylabel("roughness (Å)")
    axes[4].step(time, column("isolated_clusters"), where="post", color="#444444")
    axes[4].set(xlabel="time (ps)", ylabel="isolated clusters")
    figure.savefig(folder / FIGURE, dpi=150)
    pyplot.close(figure)
