"""The LAMMPS input of a molecular-dynamics run, written so that people can read and change it."""

from __future__ import annotations

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


@dataclass(frozen=True)
class MDSettings:
    """What a run does; times in fs, temperatures in K, pressure in bar, total charge in e.

    ``slab``, ``charge``, ``kspace`` and ``precision`` are keywords of ``pair_style qnep``; without ``slab`` the cell is
    periodic in z.

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

    def __post_init__(self) -> None:
        if self.ensemble not in ("nve", "nvt", "npt"):
            raise ValueError(f"ensemble must be nve, nvt or npt, got {self.ensemble!r}")
        if self.is_slab and self.ensemble == "npt":
            raise ValueError(
                "ensemble npt needs a system that is periodic in z, got one that is not"
            )
        for name in (
            "timestep",
            "n_steps",
            "thermo_interval",
            "trajectory_interval",
            "restart_interval",
            "seed",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.temperature >= 0 or (self.ensemble != "nve" and not self.temperature > 0):
            raise ValueError(f"temperature must be positive, got {self.temperature} K")
        if self.final_temperature is not None and not self.final_temperature > 0:
            raise ValueError(f"final temperature must be positive, got {self.final_temperature} K")
        if self.deviation_interval and len(self.models) < 2:
            raise ValueError("a deviation needs at least two models, got one")

    @property
    def is_slab(self) -> bool:
        return self.slab is not None

    @property
    def has_ramp(self) -> bool:
        """Whether the temperature of the thermostat changes from the first step to the last."""
        return self.ensemble != "nve" and self.final_temperature not in (None, self.temperature)


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
        f"run {settings.n_steps} upto start 0\nwrite_data {FINAL_FILE}\n",
    ]
    return "\n".join(sections)


def _header(settings: MDSettings, restart_step: int | None) -> str:
    time_ps = settings.n_steps * settings.timestep * PICOSECONDS_PER_FEMTOSECOND
    origin = "" if restart_step is None else f", resumed from step {restart_step}"
    return (
        f"# {settings.ensemble.upper()} run of {time_ps:g} ps{origin}. Written by `qnep md`; run it by hand with\n"
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


def _pair_keywords(settings: MDSettings) -> str:
    words = [f"kspace {settings.kspace}"]
    if settings.slab is not None:
        words.append(f"slab {settings.slab:g}")
    if settings.charge:
        words.append(f"charge {settings.charge:g}")
    if settings.precision != "double":
        words.append(f"precision {settings.precision}")
    return " ".join(words)


def _dynamics(settings: MDSettings, has_velocities: bool) -> str:
    timestep = settings.timestep * PICOSECONDS_PER_FEMTOSECOND
    lines = [f"timestep {timestep:g}      # ps"]
    if not has_velocities and settings.temperature > 0:
        lines.append(
            f"velocity all create {settings.temperature:g} {settings.seed} mom yes rot no dist gaussian"
        )
    last = (
        settings.temperature if settings.final_temperature is None else settings.final_temperature
    )
    fix = f"fix dynamics all {settings.ensemble}"
    if settings.ensemble != "nve":
        fix += f" temp {settings.temperature:g} {last:g} {DAMPING_TIMESTEPS['temperature'] * timestep:g}"
    if settings.ensemble == "npt":
        coupling = "aniso" if settings.is_anisotropic else "iso"
        damping = DAMPING_TIMESTEPS["pressure"] * timestep
        fix += f" {coupling} {settings.pressure:g} {settings.pressure:g} {damping:g}"
    return "\n".join([*lines, fix, ""])


def _output(settings: MDSettings, is_resumed: bool) -> str:
    modify = "dump_modify trajectory sort id format float %.8g element " + " ".join(
        settings.elements
    )
    if is_resumed:
        modify += " append yes"
    return (
        "thermo_style custom step time temp pe ke etotal press vol cpu\n"
        "thermo_modify flush yes\n"
        f"thermo {settings.thermo_interval}\n"
        f"dump trajectory all custom {settings.trajectory_interval} {TRAJECTORY_FILE} "
        "id type element xu yu zu vx vy vz fx fy fz q\n"
        f"{modify}\n"
        f"restart {settings.restart_interval} {RESTART_PREFIX}*\n"
    )


def elements_in_order(symbols: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct symbols, sorted: element of LAMMPS type 1, 2, ..."""
    return tuple(sorted(set(symbols)))
