"""Free-energy barriers: a biased run of one or several walkers in a folder, in pieces that a kill cannot tear."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from qnep.deposit.dynamics import (
    END_FRAME,
    START_DATA,
    TRAJECTORY,
    Dynamics,
    end_line,
    require_positive,
    setup_lines,
)
from qnep.deposit.engine import ForceField, LammpsProgram
from qnep.deposit.frame import Frame, read_frame, write_data, write_frame
from qnep.deposit.kernel import PlumedError
from qnep.deposit.plumed_input import (
    Instruction,
    check_plumed_input,
    read_plumed_input,
    write_plumed_input,
)
from qnep.files import write_atomically

logger = logging.getLogger(__name__)

STATE_FILE = "barrier.json"
START_FRAME = "start.dump"
BIASING_ACTIONS = ("METAD", "OPES_METAD", "OPES_METAD_EXPLORE", "RESTRAINT", "EXTERNAL")
OUTPUT_FILES = ("COLVAR", "HILLS", "KERNELS", TRAJECTORY)  # beginnings of the names of what grows
GROWING, STATIC = (
    "plumed.dat",
    "static.dat",
)  # PLUMED files of a walker while hills are added, and after
NEVER = "1000000000"  # steps


class BarrierError(ValueError):
    """The run cannot be set up or taken up."""


@dataclass(frozen=True)
class Columns:
    """Names in COLVAR: the variable, the bias that drives it, other biases (walls)."""

    variable: str
    bias: str
    walls: tuple[str, ...]


def find_columns(plumed_file: str | Path, variable: str | None = None) -> Columns:
    """Find out from a PLUMED file which columns of its COLVAR a profile needs.

    Parameters
    ----------
    plumed_file : with one biasing action (METAD, OPES_METAD, ...) that has a label, and a PRINT to COLVAR.
    variable : the profile's; default: the first argument of the biasing action.

    Raises
    ------
    BarrierError : an action or a column is missing, or the numbers in COLVAR are not in Å, eV and ps.
    """
    instructions = read_plumed_input(plumed_file)
    biases = [one for one in instructions if one.action in BIASING_ACTIONS and one.label]
    prints = [one for one in instructions if one.action == "PRINT" and one.get("FILE") == "COLVAR"]
    if not biases or not prints:
        raise BarrierError(
            f"{plumed_file} needs a labelled {', '.join(BIASING_ACTIONS[:2])} ... and a PRINT with FILE=COLVAR"
        )
    _require_units(plumed_file, instructions)
    printed = prints[0].get("ARG").split(",")
    variable = variable or biases[0].get("ARG").split(",")[0]
    label = biases[0].label
    bias = next((name for name in (f"{label}.rbias", f"{label}.bias") if name in printed), None)
    if bias is None or variable not in printed:
        raise BarrierError(
            f"PRINT in {plumed_file} must hold {variable} and {label}.rbias or {label}.bias"
        )
    walls = [
        f"{one.label}.bias" for one in instructions if one.action in ("UPPER_WALLS", "LOWER_WALLS")
    ]
    return Columns(variable, bias, tuple(name for name in walls if name in printed))


def _require_units(plumed_file: str | Path, instructions: list[Instruction]) -> None:
    """PLUMED's own energies, in kJ/mol, would be taken for 96 times as many."""
    units = next((one for one in instructions if one.action == "UNITS"), Instruction(0, "UNITS"))
    found = {
        keyword: units.get(keyword, default)
        for keyword, default in (("LENGTH", "nm"), ("ENERGY", "kj/mol"), ("TIME", "ps"))
    }
    if found != {"LENGTH": "A", "ENERGY": "eV", "TIME": "ps"}:
        raise BarrierError(
            f"{plumed_file} needs 'UNITS LENGTH=A ENERGY=eV TIME=ps', got "
            + " ".join(f"{keyword}={unit}" for keyword, unit in found.items())
        )


def bias_temperature(plumed_file: str | Path) -> float | None:
    """Return the temperature (K) that the actions of a PLUMED file name by TEMP; None where none does.

    Raises
    ------
    BarrierError : two of them differ, or one is no number.
    """
    found: dict[float, str] = {}
    for one in read_plumed_input(plumed_file):
        if text := one.get("TEMP"):
            place = f"TEMP={text} in line {one.line}"
            try:
                found.setdefault(float(text), place)
            except ValueError as failure:
                raise BarrierError(f"{plumed_file}: wanted a number of K, got {place}") from failure
    if len(found) > 1:
        raise BarrierError(
            f"{plumed_file}: wanted one temperature, got {', '.join(found.values())}"
        )
    return next(iter(found), None)


def require_bias_temperature(plumed_file: str | Path, temperature: float) -> None:
    """Check that dynamics and bias have the same temperature (K): weights and hills are in units of its kT.

    Raises
    ------
    BarrierError : the PLUMED file names another one.
    """
    wanted = bias_temperature(plumed_file)
    if wanted is not None and temperature != wanted:
        raise BarrierError(
            f"temperature must be that of the bias, {wanted:g} K (TEMP in {plumed_file}), got {temperature:g} K"
        )


class BarrierRun:
    """A run in a folder: `walker_N` for each walker, hills shared in `hills`.

    Files of a walker grow from piece to piece, the trajectory with them; of each piece stay its log and its last frame.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / STATE_FILE
        if not path.is_file():
            raise BarrierError(f"{path}: there is no barrier run in this folder")
        try:
            self.state = json.loads(path.read_text())
        except ValueError as failure:
            raise BarrierError(f"{path} cannot be read: {failure}") from failure

    @classmethod
    def start(
        cls, folder: str | Path, frame: Frame, plumed_file: str | Path, force_field: ForceField, dynamics: Dynamics,
        program: LammpsProgram, walkers: int = 1, pieces: int = 10, time_ps: float = 100.0, production: float = 0.5,
        selections: Mapping[str, str] | None = None,
    ) -> BarrierRun:  # fmt: skip
        """Set a run up: `time_ps` per walker, in pieces after each of which it can be taken up again.

        The last part of the run, `production` (0 to 1, rounded to pieces), adds no more hills: only a bias that does
        not change can be taken out of the samples exactly, and only then do blocks of time show the whole error. Biases
        other than METAD run as they are. `selections` are words of the command line that chose structure and atoms, by
        their options, kept so that a resumed run is asked for no others.

        Raises
        ------
        FileExistsError : the folder holds a run.
        BarrierError : the PLUMED file has another temperature than the dynamics, or no variable to follow.
        PlumedError : PLUMED refuses the file; with its own message and the line.
        """
        folder = Path(folder)
        if (folder / STATE_FILE).exists():
            raise FileExistsError(
                f"{folder} holds a barrier run: resume it (--resume) or choose another folder"
            )
        if walkers < 1 or pieces < 1:
            raise BarrierError(
                f"needs at least one walker and one piece, got {walkers} and {pieces}"
            )
        require_positive("time_ps", time_ps)
        if not 0 <= production < 1:
            raise BarrierError(f"production must be a part of the run, 0 to 1, got {production}")
        unknown = sorted(set(frame.symbols) - set(force_field.elements))
        if unknown:
            raise BarrierError(f"the force field does not know {' '.join(unknown)}")
        check_plumed_input(plumed_file, len(frame.symbols))
        columns = find_columns(plumed_file)
        require_bias_temperature(plumed_file, dynamics.temperature)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hills").mkdir()
        for walker in range(walkers):
            place = folder / f"walker_{walker}"
            place.mkdir()
            write_frame(place / START_FRAME, frame)
            instructions = _for_walker(read_plumed_input(plumed_file), walker, walkers)
            title = f"walker {walker} of {walkers}"
            write_plumed_input(place / GROWING, instructions, title)
            write_plumed_input(
                place / STATIC, _without_new_hills(instructions), title + ", no new hills"
            )
        grows = any(one.action == "METAD" for one in read_plumed_input(plumed_file))
        n_growing = pieces - (min(round(production * pieces), pieces - 1) if grows else 0)
        state = {
            "columns": asdict(columns), "force_field": asdict(force_field), "dynamics": asdict(dynamics),
            "program": asdict(program), "walkers": walkers, "pieces": pieces,
            "steps": max(1, dynamics.steps(time_ps) // pieces), "done": 0, "sizes": {}, "growing": n_growing,
            "asked": {
                "pieces": pieces, "production": production, "time_ps": time_ps, **(selections or {}),
            },
        }  # fmt: skip
        _save(folder, state)
        return cls(folder)

    @property
    def asked(self) -> dict[str, Any]:
        """What decided the run beside dynamics, forces and walkers; an older run knows only its pieces and its time."""
        state = self.state
        time_ps = state["pieces"] * state["steps"] * state["dynamics"]["timestep_fs"] / 1000
        return state.get("asked", {"pieces": state["pieces"], "time_ps": time_ps})

    def extend(self, time_ps: float) -> None:
        """Lengthen the run to a time of each walker, by pieces like the others; does nothing if it has this time.

        Hills are added no longer than before, unless all of the run adds them.

        Raises
        ------
        BarrierError : the run is longer already.
        """
        asked, state = self.asked, self.state
        if not time_ps >= asked["time_ps"] or time_ps == math.inf:
            raise BarrierError(
                f"--time-ps: the run in {self.folder} has {asked['time_ps']:g} ps, more are possible, got {time_ps:g}"
            )
        if time_ps == asked["time_ps"]:
            return
        steps = self._dynamics.steps(time_ps)
        pieces = max(state["pieces"], math.ceil(steps / state["steps"]))
        if state.get("growing", state["pieces"]) == state["pieces"]:
            state["growing"] = pieces
        state["pieces"] = pieces
        state["asked"] = {**asked, "time_ps": time_ps}
        _save(self.folder, state)

    def require_same_bias(self, plumed_file: str | Path) -> None:
        """Check that a PLUMED file has the instructions that the run was started with.

        Raises
        ------
        BarrierError : one differs, or there are more or fewer of them.
        """
        used = self.folder / "walker_0" / GROWING
        ours = [one.text for one in read_plumed_input(used)]
        theirs = _for_walker(read_plumed_input(plumed_file), 0, self.state["walkers"])
        for wanted, got in zip_longest(ours, (one.text for one in theirs), fillvalue="nothing"):
            if wanted != got:
                raise BarrierError(
                    f"--plumed: a resumed run keeps its bias, wanted {wanted!r} as in {used}, got {got!r} in "
                    f"{plumed_file}"
                )

    @property
    def force_field(self) -> ForceField:
        stored = self.state["force_field"]
        return ForceField(stored["commands"], tuple(stored["elements"]))

    @property
    def _dynamics(self) -> Dynamics:
        values = self.state["dynamics"]
        return Dynamics(**{**values, "frozen": tuple(values["frozen"])})

    def run(self, report: Callable[[int, int], None] = lambda done, pieces: None) -> None:
        """Run the pieces that are left, all walkers of a piece at the same time."""
        while self.state["done"] < self.state["pieces"]:
            self._undo_torn_piece()
            with ThreadPoolExecutor(self.state["walkers"]) as pool:
                list(pool.map(self._run_piece, range(self.state["walkers"])))
            self.state["done"] += 1
            self.state["sizes"] = {
                str(path.relative_to(self.folder)): path.stat().st_size for path in self._outputs()
            }
            _save(self.folder, self.state)
            report(self.state["done"], self.state["pieces"])

    @property
    def colvars(self) -> list[Path]:
        return [self.folder / f"walker_{k}" / "COLVAR" for k in range(self.state["walkers"])]

    @property
    def static_from_ps(self) -> float:
        """Time from which the bias no longer changes, ps; 0 if it grows all the time or never did."""
        growing = self.state.get("growing", self.state["pieces"])
        if growing == self.state["pieces"]:
            return 0.0
        return growing * self.state["steps"] * self.state["dynamics"]["timestep_fs"] / 1000

    @property
    def hills(self) -> list[Path]:
        """HILLS files of all walkers; none if the bias is no METAD."""
        return [path for path in self._outputs() if path.name.startswith("HILLS")]

    def _outputs(self) -> list[Path]:
        folders = [self.folder / "hills", *(path.parent for path in self.colvars)]
        return sorted(
            path
            for folder in folders
            for path in folder.iterdir()
            if path.name.startswith(OUTPUT_FILES)
        )

    def _undo_torn_piece(self) -> None:
        """Cut what a killed piece wrote, so that no hill and no frame counts twice."""
        for path in self._outputs():
            size = self.state["sizes"].get(str(path.relative_to(self.folder)), 0)
            if size == 0:
                path.unlink()
            elif path.stat().st_size > size:
                _cut(path, size)

    def _run_piece(self, walker: int) -> None:
        folder = self.folder / f"walker_{walker}"
        done, steps = self.state["done"], self.state["steps"]
        force_field, dynamics = self.force_field, self._dynamics
        program = LammpsProgram(
            tuple(self.state["program"]["command"]), self.state["program"]["environment"]
        )
        previous = folder / (START_FRAME if done == 0 else f"piece_{done - 1:03d}.dump")
        frame = read_frame(previous)
        write_data(folder / START_DATA, frame, force_field.elements)
        noise = walker + self.state["walkers"] * done
        lines = setup_lines(dynamics, force_field, frame.pbc, done * steps, noise, biased=True)
        if done:
            lines = [
                line.replace("outfile plumed.log", "outfile plumed.log restart yes")
                for line in lines
            ]
        if done >= self.state.get("growing", self.state["pieces"]):
            lines = [
                line.replace(f"plumedfile {GROWING}", f"plumedfile {STATIC}") for line in lines
            ]
        lines += [
            "dump_modify trajectory append yes",
            f"run {steps}",
            end_line(force_field),
        ]
        program.run("\n".join(lines) + "\n", folder)
        (folder / "in.lammps.log").replace(folder / f"piece_{done:03d}.lammps.log")
        (folder / END_FRAME).replace(folder / f"piece_{done:03d}.dump")


def _for_walker(instructions: list[Instruction], walker: int, walkers: int) -> list[Instruction]:
    """Share the hills of METAD among the walkers through PLUMED's walker files."""
    if walkers == 1:
        return instructions
    if not any(one.action == "METAD" for one in instructions):
        raise PlumedError("several walkers need METAD: its hills are what they share")
    return [
        one.with_keywords(
            WALKERS_N=str(walkers),
            WALKERS_ID=str(walker),
            WALKERS_DIR="../hills",
            WALKERS_RSTRIDE=one.get("PACE", "100"),
        )
        if one.action == "METAD"
        else one
        for one in instructions
    ]


def _without_new_hills(instructions: list[Instruction]) -> list[Instruction]:
    """The same with hills that are read, all walkers' alike, and never added to."""
    return [
        one.with_keywords(
            PACE=NEVER, **({"WALKERS_RSTRIDE": NEVER} if one.get("WALKERS_N") else {})
        )
        if one.action == "METAD"
        else one
        for one in instructions
    ]


def _cut(path: Path, size: int) -> None:
    """Cut a file by a shorter copy: a LAMMPS that outlives its killed parent goes on writing, but to the old file."""
    copy = path.with_name(path.name + ".part")
    shutil.copyfile(path, copy)
    os.truncate(copy, size)
    copy.replace(path)


def _save(folder: Path, state: dict[str, Any]) -> None:
    write_atomically(folder / STATE_FILE, json.dumps(state, indent=1))
