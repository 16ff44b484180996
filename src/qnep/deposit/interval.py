"""What LAMMPS and PLUMED read to carry one ion, or to equilibrate: the text of one interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from qnep.deposit.dynamics import THERMO, Dynamics, end_line, setup_lines
from qnep.deposit.engine import ForceField
from qnep.deposit.regions import Regions

BIASES = ("moving", "metadynamics")
VARIABLES = ("height", "coordination")
SHELL_ELEMENTS = ("O", "F", "N")  # what solvates sodium
SHELL_RADIUS = 3.2  # Å; first minimum of the Na-O distribution, where a neighbour counts one half
PULL_FRACTION = 0.9  # of an interval in which a moving restraint reaches its end
PULL_BEYOND = 0.5  # Å below the release height, where a moving restraint ends
PRINT_STRIDE = 50  # steps between lines of COLVAR
CHECK_STRIDE = 10  # steps between looks whether the ion has arrived
WALL_MARGIN = 0.5  # Å between a wall and the middle of the electrolyte, where the height has a kink
OUTCOME = "outcome.txt"  # step of the arrival, or of the end, and the work until then


@dataclass(frozen=True)
class Protocol(Dynamics):
    """How ions are carried.

    Attributes
    ----------
    interval_ps : time for one ion, ps: its rate.
    equilibration_ps : before the first ion, ps.
    bias : ``"moving"`` (restraint that moves to the surface) or ``"metadynamics"`` (well-tempered).
    variables : what is biased: ``"height"`` above the anode, ``"coordination"`` by the solvation shell, or both.
    arrival_height : Å; an ion lower than this counts as deposited.
    release_height : Å; an ion that has come lower than this is released. It is less than the arrival height, so that
        thermal motion does not undo at once what was just counted.
    spring : eV/Å² of the moving restraint on the height (eV on the coordination).
    hill_height, hill_width, hill_ps, bias_factor : eV, Å (or neighbours), ps between hills, -; of the metadynamics.
    source : ``"electrolyte"`` or ``"reservoir"`` (a neutral Na comes in on the far side for each one carried).
    choice : ``"nearest"``, ``"random"`` or ``"least-coordinated"``.
    """

    holds_centre: ClassVar[bool] = True

    interval_ps: float = 100.0
    equilibration_ps: float = 1.0
    bias: str = "metadynamics"
    variables: tuple[str, ...] = ("height",)
    arrival_height: float = 3.5
    release_height: float = 3.0
    spring: float = 2.0
    hill_height: float = 0.05
    hill_width: float = 0.3
    hill_ps: float = 0.05
    bias_factor: float = 15.0
    source: str = "electrolyte"
    choice: str = "nearest"

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = {
            "bias": BIASES,
            "source": ("electrolyte", "reservoir"),
            "choice": ("nearest", "random", "least-coordinated"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f"{name} must be one of {', '.join(values)}, got {getattr(self, name)!r}"
                )
        if not self.variables or set(self.variables) - set(VARIABLES):
            raise ValueError(
                f"variables must be among {', '.join(VARIABLES)}, got {self.variables}"
            )
        self._require_positive("interval_ps", "arrival_height", "release_height", "spring")
        self._require_positive("hill_height", "hill_width", "hill_ps")
        if not 0 <= self.equilibration_ps < math.inf:
            raise ValueError(f"equilibration_ps must be 0 or more, got {self.equilibration_ps}")
        if not 1 < self.bias_factor < math.inf:  # of PLUMED: 1 would be no bias at all
            raise ValueError(f"bias_factor must be greater than 1, got {self.bias_factor}")
        if self.release_height > self.arrival_height:
            raise ValueError(
                f"release_height must not be above arrival_height ({self.arrival_height} Å), "
                f"got {self.release_height} Å"
            )


@dataclass(frozen=True)
class Carrying:
    """One ion on its way: who, from where (Å, neighbours), who may solvate it (indices), and to which surface.

    `surface` are the atoms of the face that it is carried to and `side` the direction in which that looks; `ceiling`
    (Å) is the height of the middle between the two faces of a periodic slab, above which the other face is nearer.
    """

    ion: int
    height: float
    coordination: float
    shell: tuple[int, ...]
    surface: tuple[int, ...]
    side: int
    ceiling: float | None = None


def plumed_text(protocol: Protocol, regions: Regions, carrying: Carrying, start: int) -> str:
    """PLUMED input that carries one ion from step `start` on. Units Å, eV, ps."""
    ion = carrying.ion + 1
    # Positions come wrapped: between two faces the nearest image is the right one, above one face the atom itself.
    images = "" if carrying.ceiling is not None else " NOPBC"
    lines = [
        f"# carries the ion with identifier {ion} to the anode; Å, eV, ps",
        "UNITS LENGTH=A ENERGY=eV TIME=ps",
        f"surface: CENTER ATOMS={_numbers(carrying.surface)}{images}",
        f"arrow: DISTANCE ATOMS=surface,{ion} COMPONENTS{images}",
        f"height: COMBINE ARG=arrow.{'xyz'[regions.axis]} COEFFICIENTS={carrying.side} PERIODIC=NO",
    ]
    if "coordination" in protocol.variables:
        lines.append(
            f"coordination: COORDINATION GROUPA={ion} GROUPB={_numbers(carrying.shell)} "
            f"SWITCH={{RATIONAL R_0={SHELL_RADIUS} NN=8 MM=16 D_MAX={2 * SHELL_RADIUS}}}"
        )
    bias = _moving_restraint if protocol.bias == "moving" else _metadynamics
    lines += bias(protocol, carrying, start)
    lines += [
        f"arrived: COMMITTOR ARG=height STRIDE={CHECK_STRIDE} BASIN_LL1=-1000 "
        f"BASIN_UL1={protocol.release_height} FILE=ARRIVED",
        f"PRINT ARG={','.join(protocol.variables)},bias.bias,bias.work STRIDE={PRINT_STRIDE} FILE=COLVAR",
    ]
    return "\n".join(lines) + "\n"


def _moving_restraint(protocol: Protocol, carrying: Carrying, start: int) -> list[str]:
    begin = {"height": carrying.height, "coordination": carrying.coordination}
    end = {"height": protocol.release_height - PULL_BEYOND, "coordination": 0.0}
    stop = start + round(PULL_FRACTION * protocol.steps(protocol.interval_ps))
    springs = ",".join([f"{protocol.spring}"] * len(protocol.variables))
    points = [
        f"AT{k}={','.join(f'{place[name]:.4f}' for name in protocol.variables)} STEP{k}={step} KAPPA{k}={springs}"
        for k, (place, step) in enumerate([(begin, start), (end, stop)])
    ]
    return [f"bias: MOVINGRESTRAINT ARG={','.join(protocol.variables)} {' '.join(points)}"]


def _metadynamics(protocol: Protocol, carrying: Carrying, start: int) -> list[str]:
    widths = ",".join([f"{protocol.hill_width}"] * len(protocol.variables))
    lines = [
        f"bias: METAD ARG={','.join(protocol.variables)} SIGMA={widths} HEIGHT={protocol.hill_height} "
        f"PACE={protocol.steps(protocol.hill_ps)} TEMP={protocol.temperature} BIASFACTOR={protocol.bias_factor} "
        "CALC_WORK FILE=HILLS"
    ]
    # Hills push both ways: behind the ion stands a wall.
    wall = carrying.height + 2.0
    if carrying.ceiling is not None:
        wall = min(wall, carrying.ceiling - WALL_MARGIN)
    lines.append(f"back: UPPER_WALLS ARG=height AT={wall:.4f} KAPPA={protocol.spring}")
    return lines


def _numbers(indices: Sequence[int]) -> str:
    return ",".join(str(i + 1) for i in indices)


def lammps_text(
    protocol: Protocol,
    force_field: ForceField,
    pbc: Sequence[bool],
    interval: int,
    start: int,
    carries: bool,
) -> str:
    """LAMMPS input of one interval (0: equilibration) that begins at step `start`."""
    duration = protocol.interval_ps if interval else protocol.equilibration_ps
    end = start + protocol.steps(duration)
    lines = setup_lines(protocol, force_field, pbc, start, interval, carries)
    if carries:
        lines += [
            f"run {end} upto",
            "variable work equal f_plumed[2]",
            f'print "$(step) $(v_work:%.10g)" file {OUTCOME} screen no',
            "unfix plumed",
            "timer timeout off",  # PLUMED may have ended the run on arrival
            f"thermo_style {THERMO}",
        ]
    lines += [f"run {end} upto", end_line(force_field)]
    return "\n".join(lines) + "\n"
