"""What an analysis hands to files, pictures and the report: plain charts, tables, flows and snapshots.

Everything here is data that goes to JSON and back; how it is drawn is said in `qnep.analysis.figures` (PNG,
PDF) and `qnep.report` (HTML).
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qnep.files import write_atomically

FORMAT = 1
FINDINGS_FILE = "findings.json"


@dataclass(frozen=True)
class Series:
    """One curve or one set of bars; ``x`` are numbers or, for bars, names."""

    name: str
    x: list
    y: list[float]


@dataclass(frozen=True)
class Chart:
    """Curves, steps, bars or points in one frame.

    Parameters
    ----------
    name : of its files.
    section : heading under which it stands.
    kind : "line", "bar" or "scatter".
    """

    name: str
    section: str
    title: str
    caption: str
    x_label: str
    y_label: str
    series: list[Series]
    kind: str = "line"

    def rows(self) -> tuple[list[str], list[list]]:
        """Return header and rows: one column for x, one for each series (blank where it has no such x)."""
        xs = list(dict.fromkeys(x for one in self.series for x in one.x))
        columns = [dict(zip(one.x, one.y)) for one in self.series]
        unit = f" [{self.y_label}]" if self.y_label else ""
        header = [self.x_label, *(f"{one.name}{unit}" for one in self.series)]
        return header, [[x, *(_or_blank(column.get(x)) for column in columns)] for x in xs]


@dataclass(frozen=True)
class Table:
    """Rows under a header."""

    name: str
    section: str
    title: str
    caption: str
    header: list[str]
    rows: list[list]


@dataclass(frozen=True)
class Flow:
    """A Sankey picture: links (from node, to node, amount)."""

    name: str
    section: str
    title: str
    caption: str
    nodes: list[str]
    links: list[tuple[int, int, float]]

    def rows(self) -> tuple[list[str], list[list]]:
        """Return header and rows."""
        return ["from", "to", "events"], [
            [self.nodes[a], self.nodes[b], n] for a, b, n in self.links
        ]


@dataclass(frozen=True)
class Drawing:
    """A ready picture as SVG text."""

    name: str
    section: str
    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Snapshot:
    """Atoms to be looked at.

    Parameters
    ----------
    label : as "frame 10, 2.5 ps".
    symbols : (n_atoms,).
    positions : (n_atoms, 3) Å, rounded to 0.001.
    cell : (3, 3) Å.
    charges : (n_atoms,) e; None without.
    """

    label: str
    symbols: list[str]
    positions: list[list[float]]
    cell: list[list[float]]
    charges: list[float] | None = None


@dataclass
class Findings:
    """All results of an analysis.

    Parameters
    ----------
    about : what was analysed, with which settings: {name: value}.
    notes : what a reader must know: frames left out, analyses that could not run, limits.
    origin : of the findings of a trajectory: see `qnep.analysis.origin.Origin`.
    files : {name: digest} of what was written beside ``findings.json``.
    """

    about: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    origin: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def extend(self, other: Findings) -> None:
        """Take over everything that other findings tell; whence they came and what was written stays theirs."""
        self.about |= other.about
        for name in ("notes", "charts", "tables", "flows", "drawings", "snapshots"):
            getattr(self, name).extend(getattr(other, name))

    def write(self, folder: Path) -> list[Path]:
        """Write ``findings.json`` and a CSV file for every chart, table and flow; return all but the first."""
        folder.mkdir(parents=True, exist_ok=True)
        drawn: list[Chart | Flow] = [*self.charts, *self.flows]
        tables = {one.name: one.rows() for one in drawn}
        tables |= {table.name: (table.header, table.rows) for table in self.tables}
        written = [folder / f"{name}.csv" for name in tables]
        for path, (header, rows) in zip(written, tables.values()):
            _write_csv(path, header, rows)
        for drawing in self.drawings:
            written.append(folder / f"{drawing.name}.svg")
            written[-1].write_text(drawing.svg, encoding="utf-8")
        self.files |= digests_of(written)
        self.save(folder)
        return written

    def save(self, folder: Path) -> None:
        """Write ``findings.json`` alone."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, default=_plain, ensure_ascii=False)
        write_atomically(folder / FINDINGS_FILE, text)

    def drop_files_but(self, folder: Path, kept: Iterable[Path]) -> None:
        """Delete what is listed in `files` and is not to be kept, and list what is; the list must be saved then.

        A file that was changed since it was listed is somebody's own now, and stays.
        """
        listed, self.files = self.files, digests_of(kept)
        for name in listed.keys() - self.files.keys():
            path = folder / name
            is_beside = path.name == name and path.is_file()
            if is_beside and digests_of([path])[name] == listed[name]:
                path.unlink()

    @classmethod
    def read(cls, path: Path) -> Findings:
        """Read ``findings.json``.

        Raises
        ------
        ValueError : where the file is not one of ours.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data.pop("format") != FORMAT:
                raise ValueError("written by another version of qnep: analyse again")
            charts = [
                Chart(**{**one, "series": [Series(**s) for s in one["series"]]})
                for one in data.pop("charts")
            ]
            kinds = {"tables": Table, "flows": Flow, "drawings": Drawing, "snapshots": Snapshot}
            lists: dict[str, Any] = {
                name: [kind(**one) for one in data.pop(name)] for name, kind in kinds.items()
            }
            return cls(charts=charts, **lists, **data)
        except (KeyError, TypeError, ValueError) as failure:
            raise ValueError(f"{path}: not findings of qnep: {failure}") from None


def files_of_analysis(folder: Path) -> dict[str, str]:
    """Return {name: digest} of what an earlier analysis of a trajectory wrote into a folder, as far as it is known."""
    try:
        earlier = Findings.read(folder / FINDINGS_FILE)
    except (OSError, ValueError):
        return {}
    return earlier.files if earlier.origin else {}


def digests_of(paths: Iterable[Path]) -> dict[str, str]:
    """Return {name: SHA-256, hexadecimal} of files."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _or_blank(value: float | None) -> float | str:
    """Return a number for a table; nothing for a missing one."""
    return "" if value is None or value != value else value


def _write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _plain(value: Any) -> Any:
    """Turn numpy scalars and arrays into what JSON knows."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot write {type(value).__name__} to JSON")
