"""The state file of a deposition run: everything that decides how it goes on, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qnep.deposit.census import Molecule
from qnep.deposit.engine import ForceField, LammpsProgram
from qnep.deposit.interval import Protocol
from qnep.deposit.regions import Regions
from qnep.files import write_atomically

STATE_FILE = "state.json"
FORMAT = 1


class StateError(ValueError):
    """There is no state, or it cannot be read."""


@dataclass
class State:
    """A run after its last finished interval.

    Attributes
    ----------
    carriers : indices of the sodium that may be carried: of the electrolyte at the start, or come in since.
    residents : sodium of the SEI that touched the anode from the start.
    rows : the table so far, the first one for the time after the equilibration.
    trajectory_bytes : length of the trajectory that belongs to the finished intervals.
    step : of LAMMPS at the end of the last finished interval.
    deposited : carriers that were down at the end of the last finished interval.
    selections : words of the command line that chose structure, regions and frozen atoms, by their options: a resumed
        run is asked for no others. Empty for a run that was started from Python.
    """

    protocol: Protocol
    force_field: ForceField
    program: LammpsProgram
    regions: Regions
    molecules: tuple[Molecule, ...]
    carriers: list[int]
    residents: list[int]
    rows: list[dict[str, Any]] = field(default_factory=list)
    trajectory_bytes: int = 0
    step: int = 0
    deposited: list[int] = field(default_factory=list)
    selections: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Replace the state file in one move, so that a kill leaves the old one or the new one."""
        content = json.dumps({"format": FORMAT, **asdict(self)}, indent=1)
        write_atomically(folder / STATE_FILE, content)

    @classmethod
    def load(cls, folder: Path) -> State:
        """Read the state of a run.

        Raises
        ------
        StateError : no run in this folder, or a file that is damaged or of another version of qnep.
        """
        path = folder / STATE_FILE
        if not path.is_file():
            raise StateError(f"{path}: there is no deposition run to resume in this folder")
        try:
            values = json.loads(path.read_text())
            if values.pop("format") != FORMAT:
                raise StateError(f"{path} was written by another version of qnep")
            return _from_json(values)
        except (KeyError, TypeError, ValueError) as failure:
            if isinstance(failure, StateError):
                raise
            raise StateError(
                f"{path} cannot be read ({type(failure).__name__}: {failure}); "
                "the finished intervals beside it are whole"
            ) from failure


def _from_json(values: dict[str, Any]) -> State:
    molecules = values.pop("molecules")
    types = {
        "protocol": Protocol,
        "force_field": ForceField,
        "program": LammpsProgram,
        "regions": Regions,
    }
    parts = {name: kind(**_with_tuples(values.pop(name))) for name, kind in types.items()}
    return State(
        **parts,
        molecules=tuple(
            Molecule(one["kind"], tuple((i, j) for i, j in one["bonds"])) for one in molecules
        ),
        **values,
    )


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON turned tuples into lists."""
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
