"""From what findings were made, kept with them, so that it shows when they are out of date."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qnep.analysis.options import AnalysisOptions

Stamp = tuple[int, int]  # bytes and seconds since 1970: archives keep no smaller parts of a second


def stamp_of(path: Path) -> Stamp:
    """Return what changes when a run goes on writing to a file."""
    status = path.stat()
    return status.st_size, int(status.st_mtime)


@dataclass(frozen=True)
class Origin:
    """An analysis: of which trajectory, as it was when the reading began, and with which options.

    Parameters
    ----------
    trajectory : the file.
    stamp : of the trajectory.
    options : of the analysis.
    figures : formats in which figures were written, or "none".
    """

    trajectory: Path
    stamp: Stamp
    options: AnalysisOptions
    figures: str = "none"

    def record(self, folder: Path) -> dict[str, Any]:
        """Return what JSON can keep; files are named as seen from the folder of the findings: runs are moved about."""
        options = asdict(self.options)
        if self.options.topology is not None:
            options["topology"] = _seen_from(folder, self.options.topology)
        return {
            "trajectory": _seen_from(folder, self.trajectory),
            "stamp": self.stamp,
            "options": options,
            "figures": self.figures,
        }

    @classmethod
    def read(cls, record: Mapping[str, Any], folder: Path) -> Origin | None:
        """Return the origin of findings in a folder, or None where it was not kept (no analysis, another version)."""
        try:
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in record["options"].items()
            }
            if values["topology"] is not None:
                values["topology"] = (folder / values["topology"]).resolve()
            size, seconds = record["stamp"]
            trajectory = (folder / record["trajectory"]).resolve()
            return cls(trajectory, (size, seconds), AnalysisOptions(**values), record["figures"])
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def changed_options(self, given: Mapping[str, Any]) -> str:
        """Return in words which of the given options are not those of the analysis; "" where none is."""
        return ", ".join(
            f"--{name.replace('_', '-')} is {_words(value)}, was {_words(getattr(self.options, name))}"
            for name, value in given.items()
            if value != getattr(self.options, name)
        )

    def changed_trajectory(self) -> str:
        """Return in words how the trajectory changed since; "" where it did not, or is not there any more."""
        if not self.trajectory.is_file():
            return ""
        now = stamp_of(self.trajectory)
        if now[0] != self.stamp[0]:
            return f"{self.trajectory.name} has {now[0]} bytes, had {self.stamp[0]}"
        return "" if now == self.stamp else f"{self.trajectory.name} was written again since"


def _seen_from(folder: Path, path: Path) -> str:
    return os.path.relpath(path.resolve(), folder.resolve())


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "not given"
    return "not given" if value in (None, "") else str(value)
