"""Molecular dynamics as deposition and barrier runs have it: Langevin bath, walls at open faces, exact hand-over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from qnep.deposit.engine import ForceField
from qnep.deposit.frame import COLUMNS

START_DATA, END_FRAME, TRAJECTORY = "start.data", "end.dump", "trajectory.dump"
THERMO = "custom step temp pe etotal press"


def require_positive(name: str, value: float) -> None:
    """Raise ValueError for a number that is zero, negative, infinite or none at all."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive, got {value}")


@dataclass(frozen=True)
class Dynamics:
    """Constant temperature by a Langevin bath.

    Attributes
    ----------
    temperature : K.
    timestep_fs : fs.
    damping_ps : relaxation time of the bath, ps.
    dump_ps : time between frames of the trajectory, ps.
    seed : of all random numbers.
    frozen : indices of atoms that stay where they are.
    """

    temperature: float = 300.0
    timestep_fs: float = 0.5
    damping_ps: float = 0.1
    dump_ps: float = 1.0
    seed: int = 1
    frozen: tuple[int, ...] = ()

    # Noise without a net force keeps a large periodic system in its place. It cools whatever is held in space (frozen
    # atoms, a bias on a position) by one part in the number of atoms: in a molecule that is a wrong temperature.
    holds_centre: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._require_positive("temperature", "timestep_fs", "damping_ps", "dump_ps")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")

    def _require_positive(self, *names: str) -> None:
        for name in names:
            require_positive(name, getattr(self, name))

    def steps(self, time_ps: float) -> int:
        """Number of time steps, at least one."""
        return max(1, round(1000 * time_ps / self.timestep_fs))


def setup_lines(
    dynamics: Dynamics,
    force_field: ForceField,
    pbc: Sequence[bool],
    start: int,
    noise: int,
    biased: bool,
) -> list[str]:
    """LAMMPS lines up to the first run.

    Parameters
    ----------
    start : step of the frame in START_DATA.
    noise : number of this piece of the run; each has noise of its own, and the same one when it is done again.
    biased : with fix plumed, which reads plumed.dat.
    """
    stride = dynamics.steps(dynamics.dump_ps)
    return [
        "units metal",
        "atom_style charge",
        f"boundary {' '.join('p' if periodic else 'f' for periodic in pbc)}",
        "box tilt large",
        f"read_data {START_DATA}",
        force_field.commands,
        "neigh_modify every 1 delay 0 check yes",
        f"timestep {dynamics.timestep_fs / 1000:.10g}",
        f"reset_timestep {start}",
        *_integration(dynamics, pbc, noise),
        f"dump trajectory all custom {stride} {TRAJECTORY} id element x y z q",
        f"dump_modify trajectory element {' '.join(force_field.elements)} sort id first no",
        # The frame at which a part of a run begins was the last one of the part before.
        *([f"dump_modify trajectory delay {start + 1}"] if start else []),
        *(["fix plumed all plumed plumedfile plumed.dat outfile plumed.log"] if biased else []),
        f"thermo {max(1, stride // 2)}",
        f"thermo_style {THERMO}" + (" f_plumed f_plumed[2]" if biased else ""),
    ]


def end_line(force_field: ForceField) -> str:
    """The LAMMPS line that writes the frame to go on from."""
    return (
        f"write_dump all custom {END_FRAME} {COLUMNS} modify sort id "
        f"element {' '.join(force_field.elements)} format float %.17g"
    )


def _integration(dynamics: Dynamics, pbc: Sequence[bool], noise: int) -> list[str]:
    seed = 1 + (dynamics.seed * 1_000_003 + noise * 7919) % 900_000_000
    lines = []
    group = "all"
    if dynamics.frozen:
        group = "mobile"
        lines += [
            f"group frozen id {' '.join(str(i + 1) for i in dynamics.frozen)}",
            "group mobile subtract all frozen",
        ]
    bath = f"{dynamics.temperature} {dynamics.temperature} {dynamics.damping_ps}"
    zero = "yes" if dynamics.holds_centre and not dynamics.frozen else "no"
    lines += [f"fix motion {group} nve", f"fix bath {group} langevin {bath} {seed} zero {zero}"]
    for axis, periodic in zip("xyz", pbc):
        if not periodic:
            lines.append(f"fix wall_{axis} all wall/reflect {axis}lo EDGE {axis}hi EDGE")
    return lines
