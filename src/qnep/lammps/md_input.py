"""The LAMMPS input of a molecular-dynamics run, written so that people can read and change it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

DAMPING_TIMESTEPS = {"temperature": 100, "pressure": 1000}
"""Relaxation times of the Nosé-Hoover thermostat and barostat, as the LAMMPS manual of fix nvt recommends."""

DATA_FILE = "system.data"
TRAJECTORY_FILE = "trajectory.lammpstrj"
FINAL_FILE = "final.data"
DEVIATION_FILE = "deviation.txt"
RESTART_PREFIX = "restart."
PICOSECONDS_PER_FEMTOSECOND = 1e-3
KSPACE_METHODS = {"pppm": 2, "ewald": 2, "direct": 1}
"""Of pair_style qnep, with the number of words: a method, and the accuracy of those that have one."""


@dataclass(frozen=True)
class MDSettings:
    """What a run does; times in fs, temperatures in K, pressure in bar, total charge in e.

    ``slab``, ``charge``, ``kspace`` and ``precision`` are keywords of ``pair_style qnep``; without ``slab`` the cell is
    periodic in z. ``frozen`` holds the ids of fixed atoms, as the ranges of `fixed_atoms`. A model of the free energy
    among the models is evaluated at ``temperature``, in every ensemble.

    Raises
    ------
    ValueError : a value that cannot be run, with the name of the field, what was wanted and what came.
    """

    models: tuple[str, ...]
    elements: tuple[str, ...]
    ensemble: str = "nvt"
    temperature: float = 300.0
    final_temperature: float | None = None
    pressure: float = 1.0
    is_anisotropic: bool = False
    timestep: float = 0.5
    n_steps: int = 10_000
    thermo_interval: int = 100
    trajectory_interval: int = 100
    restart_interval: int = 1000
    deviation_interval: int = 0
    seed: int = 1
    keeps_velocities: bool = False
    slab: float | None = None
    charge: float = 0.0
    kspace: str = "pppm 1e-5"
    precision: str = "double"
    frozen: tuple[str, ...] = ()
    has_free_energy_model: bool = False

    def __post_init__(self) -> None:
        if self.ensemble not in ("nve", "nvt", "npt"):
            raise ValueError(f"ensemble must be nve, nvt or npt, got {self.ensemble!r}")
        if self.is_slab and self.ensemble == "npt":
            raise ValueError(
                "ensemble npt needs a system that is periodic in z, got one that is not"
            )
        if self.frozen and self.ensemble == "npt":
            raise ValueError(
                "ensemble npt moves all atoms with the cell, got a structure with fixed ones: take nvt, or release them"
            )
        _check_kspace(self.kspace)
        for name in (
            "timestep",
            "n_steps",
            "thermo_interval",
            "trajectory_interval",
            "restart_interval",
            "seed",
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name, unit in {"pressure": "bar", "charge": "e"}.items():
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be a number of {unit}, got {getattr(self, name)}")
        self._check_temperatures()
        if self.slab is not None and not 1.5 <= self.slab <= 100:  # as the pair style
            raise ValueError(
                f"slab must be a factor from 1.5 to 100 by which the box is extended in z, got {self.slab}"
            )
        if self.deviation_interval < 0:
            raise ValueError(f"deviation_interval must be 0 or more, got {self.deviation_interval}")
        if self.deviation_interval and len(self.models) < 2:
            raise ValueError("a deviation needs at least two models, got one")

    def _check_temperatures(self) -> None:
        is_valid = 0 <= self.temperature < math.inf
        if not is_valid or (self.ensemble != "nve" and not self.temperature > 0):
            raise ValueError(f"temperature must be positive, got {self.temperature} K")
        if self.final_temperature is not None and not 0 < self.final_temperature < math.inf:
            raise ValueError(f"final temperature must be positive, got {self.final_temperature} K")
        if self.has_ramp and self.has_free_energy_model:
            raise ValueError(
                "final_temperature must be left out for a model of the free energy, which is evaluated at one "
                f"temperature in a run ({self.temperature} K), got {self.final_temperature} K"
            )

    @property
    def is_slab(self) -> bool:
        return self.slab is not None

    @property
    def has_ramp(self) -> bool:
        """Whether the temperature of the thermostat changes from the first step to the last."""
        return self.ensemble != "nve" and self.final_temperature not in (None, self.temperature)


def _check_kspace(kspace: str) -> None:
    """Look at method and accuracy; further words are other keywords of the pair style, which LAMMPS looks at."""
    words = kspace.split()
    n_words = KSPACE_METHODS.get(words[0] if words else "")
    if n_words is None or len(words) < n_words or (n_words == 2 and not _is_accuracy(words[1])):
        raise ValueError(
            "kspace must be pppm ACCURACY, ewald ACCURACY or direct, with an accuracy between 1e-12 and 0.1 as in "
            f"'pppm 1e-5', got {kspace!r}"
        )


def _is_accuracy(word: str) -> bool:
    try:
        return 1e-12 <= float(word) <= 0.1  # as the pair style
    except ValueError:
        return False


def md_input(settings: MDSettings, restart_step: int | None = None) -> str:
    """Return the text of a LAMMPS input.

    Parameters
    ----------
    settings : of the run.
    restart_step : step of the restart file to go on from; None: start from the data file.
    """
    sections = [
        _header(settings, restart_step),
        _start(settings, restart_step),
        _potential(settings, is_resumed=restart_step is not None),
        _dynamics(settings, has_velocities=restart_step is not None or settings.keeps_velocities),
        _output(settings, is_resumed=restart_step is not None),
        # `start 0`: else a ramp would begin again with every resumed run
        f"run {settings.n_steps} upto start 0\n"
        f"write_restart {RESTART_PREFIX}{settings.n_steps}\nwrite_data {FINAL_FILE}\n",
    ]
    return "\n".join(sections)


def _header(settings: MDSettings, restart_step: int | None) -> str:
    time_ps = settings.n_steps * settings.timestep * PICOSECONDS_PER_FEMTOSECOND
    origin = "" if restart_step is None else f", resumed from step {restart_step}"
    return (
        f"# {settings.ensemble.upper()} run of {_number(time_ps)} ps{origin}. Written by `qnep md`; "
        "run it by hand with\n"
        "#   mpirun -n 4 lmp -in THIS_FILE\n"
    )


def _start(settings: MDSettings, restart_step: int | None) -> str:
    if restart_step is not None:
        return f"read_restart {RESTART_PREFIX}{restart_step}\n"
    boundary = "p p f" if settings.is_slab else "p p p"
    return (
        "units metal          # Å, eV, ps, bar\n"
        "atom_style charge\n"
        f"boundary {boundary}\n"
        f"read_data {DATA_FILE}\n"
    )


def _potential(settings: MDSettings, is_resumed: bool) -> str:
    style = f"pair_style qnep {_pair_keywords(settings)}"
    if settings.deviation_interval:
        style += f" deviation {DEVIATION_FILE} {settings.deviation_interval}"
        style += " deviation_append yes" if is_resumed else ""
    files = " ".join(f'"{model}"' for model in settings.models)
    return (
        f"{style}\n"
        f"pair_coeff * * {files} {' '.join(settings.elements)}\n"
        "neighbor 1.0 bin     # skin, Å\n"
        "neigh_modify every 1 delay 0 check yes\n"
    )


def _number(value: float) -> str:
    """All digits that people write, and none of the rounding of a product: 3, 0.123456789."""
    return f"{value:.15g}"


def _pair_keywords(settings: MDSettings) -> str:
    words = [f"kspace {settings.kspace}"]
    if settings.slab is not None:
        words.append(f"slab {_number(settings.slab)}")
    if settings.charge:
        words.append(f"charge {_number(settings.charge)}")
    if settings.has_free_energy_model:
        words.append(f"temperature {_number(settings.temperature)}")
    if settings.precision != "double":
        words.append(f"precision {settings.precision}")
    return " ".join(words)


def _dynamics(settings: MDSettings, has_velocities: bool) -> str:
    timestep = settings.timestep * PICOSECONDS_PER_FEMTOSECOND
    lines = [f"timestep {_number(timestep)}      # ps"]
    mobile = "all"
    velocities = "mom yes rot no dist gaussian"
    if settings.frozen:
        mobile = "mobile"
        # The fixed atoms take up momentum: that of the others is free.
        velocities = "mom no rot no dist gaussian temp mobile_temperature"
        lines.append(_fixed_atoms(settings.frozen))
    if not has_velocities and settings.temperature > 0:
        lines.append(
            f"velocity {mobile} create {_number(settings.temperature)} {settings.seed} {velocities}"
        )
    last = (
        settings.temperature if settings.final_temperature is None else settings.final_temperature
    )
    fix = f"fix dynamics {mobile} {settings.ensemble}"
    if settings.ensemble != "nve":
        damping = DAMPING_TIMESTEPS["temperature"] * timestep
        fix += f" temp {_number(settings.temperature)} {_number(last)} {_number(damping)}"
    if settings.ensemble == "npt":
        coupling = "aniso" if settings.is_anisotropic else "iso"
        damping = DAMPING_TIMESTEPS["pressure"] * timestep
        pressure = _number(settings.pressure)
        fix += f" {coupling} {pressure} {pressure} {_number(damping)}"
    lines.append(fix)
    if settings.frozen and settings.ensemble != "nve":
        lines.append("fix_modify dynamics temp mobile_temperature")
    return "\n".join([*lines, ""])


def _fixed_atoms(ids: Sequence[str]) -> str:
    """Commands for atoms that stay in place, with a temperature that leaves them out."""
    lines = textwrap.wrap(f"group frozen id {' '.join(ids)}", 90, subsequent_indent="    ")
    return "\n".join(
        [
            " &\n".join(lines),
            "group mobile subtract all frozen",
            "velocity frozen set 0 0 0",
            "fix frozen_forces frozen setforce 0 0 0",
            "compute mobile_temperature mobile temp",
            "compute_modify mobile_temperature extra/dof 0   # no total momentum is conserved",
        ]
    )


def _output(settings: MDSettings, is_resumed: bool) -> str:
    modify = "dump_modify trajectory sort id format float %.8g element " + " ".join(
        settings.elements
    )
    if is_resumed:
        modify += " append yes"
    return (
        "thermo_style custom step time temp pe ke etotal press vol cpu\n"
        f"thermo_modify flush yes{' temp mobile_temperature' if settings.frozen else ''}\n"
        f"thermo {settings.thermo_interval}\n"
        f"dump trajectory all custom {settings.trajectory_interval} {TRAJECTORY_FILE} "
        "id type element xu yu zu vx vy vz fx fy fz q\n"
        f"{modify}\n"
        f"restart {settings.restart_interval} {RESTART_PREFIX}*\n"
    )


def elements_in_order(symbols: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct symbols, sorted: element of LAMMPS type 1, 2, ..."""
    return tuple(sorted(set(symbols)))
