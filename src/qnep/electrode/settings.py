"""What decides how a run of `qnep electrode` goes: kept in its folder, so that a resumed run is the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qnep.electrode.cycling import STATE, CyclingProtocol
from qnep.files import write_atomically

SETTINGS = "protocol.json"
FORMAT = 1


@dataclass(frozen=True)
class CyclingSettings:
    """All that a run was started with and that may not change on its way.

    Attributes
    ----------
    structure : path of the start.
    build : options of `qnep build interface` that made it, if it was built.
    model, model_sha256 : path of the model file, and its digest: the file may be moved, but not replaced.
    metal : symbol of the electrodes' metal.
    axis : cell vector through the vacuum, 0 to 2.
    plane : fraction of that vector that divides the electrodes.
    distances, counts : Å and neighbours, as for `CoordinationMembership`.
    hardness : V/e of the metal; None: from the table.
    protocol : see `CyclingProtocol`.
    """

    structure: str
    build: str | None
    model: str
    model_sha256: str
    metal: str
    axis: int
    plane: float
    distances: tuple[float, float]
    counts: tuple[float, float]
    hardness: float | None
    protocol: CyclingProtocol

    def save(self, folder: Path) -> None:
        """Replace the file of the settings in one move; makes the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(
            folder / SETTINGS, json.dumps({"format": FORMAT, **asdict(self)}, indent=1)
        )

    @classmethod
    def load(cls, folder: Path) -> CyclingSettings:
        """Read the settings of a run.

        Raises
        ------
        ValueError : there is no run, it is one of an older version of qnep, or the file cannot be read.
        """
        path = folder / SETTINGS
        if not path.is_file():
            if (folder / STATE).is_file():
                raise ValueError(
                    f"{path} is missing: an older version of qnep, which did not keep the protocol, made this run. "
                    f"Start a new one from its last state, with all options: qnep electrode {folder / STATE} "
                    "--model ... --folder ANOTHER"
                )
            raise ValueError(f"{path}: there is no run to resume in this folder")
        try:
            values = {
                key: _with_tuple(value) for key, value in json.loads(path.read_text()).items()
            }
            if values.pop("format") != FORMAT:
                raise ValueError("another version of qnep wrote it")
            protocol = {key: _with_tuple(value) for key, value in values.pop("protocol").items()}
            return cls(**values, protocol=CyclingProtocol(**protocol))
        except (AttributeError, KeyError, TypeError, ValueError) as failure:
            raise ValueError(f"{path} cannot be read: {failure}") from failure

    def resumed(self, given: Mapping[str, Any]) -> CyclingSettings:
        """Return the settings with which a run goes on.

        Parameters
        ----------
        given : names and values of attributes, those of the protocol among them, that are asked for again. A model may
            lie elsewhere now, and there may be another number of half cycles.

        Raises
        ------
        ValueError : any other value differs from the run's, or the model's file is another one.
        """
        ours = {**vars(self), **vars(self.protocol)}
        changed = [
            f"{name} {ours[name]}, not {value}"
            for name, value in given.items()
            if name not in ("model", "n_half_cycles") and value != ours[name]
        ]
        if changed:
            raise ValueError(
                f"the run was started with {'; '.join(changed)}: resume it without these options, or start another one"
            )
        model = given.get("model", self.model)
        if digest(model) != self.model_sha256:
            raise ValueError(f"{model} is not the model that the run was started with")
        n_half_cycles = given.get("n_half_cycles", self.protocol.n_half_cycles)
        return replace(
            self, model=model, protocol=replace(self.protocol, n_half_cycles=n_half_cycles)
        )


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _with_tuple(value: Any) -> Any:
    """JSON turned tuples into lists."""
    return tuple(value) if isinstance(value, list) else value
