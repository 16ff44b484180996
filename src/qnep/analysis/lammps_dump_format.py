"""LAMMPS text dumps (``dump custom`` and ``dump atom``), orthogonal and triclinic."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from qnep._optional import require
from qnep.analysis.errors import TrajectoryError, TruncatedFrame
from qnep.analysis.frame import Frame
from qnep.analysis.text_source import TextSource

logger = logging.getLogger(__name__)

# (columns, are they fractions of the box?), the best first: unwrapped before wrapped
_POSITIONS = (
    (("xu", "yu", "zu"), False),
    (("x", "y", "z"), False),
    (("xsu", "ysu", "zsu"), True),
    (("xs", "ys", "zs"), True),
)
# by ITEM: UNITS, which LAMMPS writes once, at the top of a file; without it no time is known
FS_PER_TIME_UNIT = {"real": 1.0, "metal": 1000.0, "electron": 1.0, "si": 1e15}


class LammpsDumpReader:
    """Reads frame after frame; atoms come out sorted by their id.

    Parameters
    ----------
    source : the file.
    elements : symbols of types 1, 2, ...; needed where the dump has no ``element`` column.
    """

    why_no_time = "no ITEM: TIME with ITEM: UNITS, as dump_modify time yes units yes writes them"

    def __init__(
        self,
        source: TextSource,
        elements: Sequence[str] | None = None,
        units: str | None = None,
    ):
        self.source = source
        self.elements = elements
        self._fs_per_time_unit = FS_PER_TIME_UNIT.get(units or "")

    def read(self, index: int) -> Frame | None:
        """Return the next frame, or None at the end of the file.

        Raises
        ------
        TruncatedFrame : where the file ends within the frame.
        TrajectoryError : where the text is not a dump, or lacks elements or box.
        """
        header = self._header(index)
        if header is None:
            return None
        block = self.source.block(header["n_atoms"])
        if block is None:
            raise TruncatedFrame(index)
        return self._frame(index, header, block)

    def skip(self, index: int) -> bool:
        """Pass over a frame without reading it; False at the end of the file."""
        header = self._header(index)
        if header is not None and self.source.block(header["n_atoms"]) is None:
            raise TruncatedFrame(index)
        return header is not None

    def _header(self, index: int) -> dict | None:
        """Return what the ITEM lines before the atoms say."""
        header: dict = {}
        while "columns" not in header:
            line = self.source.line()
            if not line:
                if header:
                    raise TruncatedFrame(index)
                return None
            if not line.startswith("ITEM:"):
                raise TrajectoryError(f"{self._here()}: wanted 'ITEM: ...', got {line[:60]!r}")
            self._item(line[5:].strip(), header, index)
        for key, name in (("n_atoms", "NUMBER OF ATOMS"), ("cell", "BOX BOUNDS")):
            if key not in header:
                raise TrajectoryError(f"{self._here()}: frame {index} has no 'ITEM: {name}'")
        return header

    def _item(self, item: str, header: dict, index: int) -> None:
        """Read one section of the header."""
        try:
            if item == "TIMESTEP":
                header["step"] = int(self._value(index))
            elif item == "TIME":
                header["time"] = float(self._value(index))
            elif item == "UNITS":
                self._fs_per_time_unit = FS_PER_TIME_UNIT.get(self._value(index).strip())
            elif item == "NUMBER OF ATOMS":
                header["n_atoms"] = int(self._value(index))
            elif item.startswith("BOX BOUNDS"):
                rows = [self._value(index).split() for _ in range(3)]
                header["cell"], header["origin"], header["pbc"] = _box(item.split()[2:], rows)
            elif item.startswith("ATOMS"):
                header["columns"] = item.split()[1:]
        except ValueError as failure:
            raise TrajectoryError(f"{self._here()}, 'ITEM: {item}': {failure}") from None

    def _value(self, index: int) -> str:
        line = self.source.line()
        if not line:
            raise TruncatedFrame(index)
        return line

    def _here(self) -> str:
        return f"{self.source.path}, line {self.source.line_number}"

    def _frame(self, index: int, header: dict, block: bytes) -> Frame:
        where = f"{self.source.path}, frame {index}"
        columns = header["columns"]
        names, is_scaled = _position_columns(columns, where)
        table = _read_table(block, header["n_atoms"], columns, names, where)
        order = _order(table, where)
        positions = table[list(names)].to_numpy()[order]
        if is_scaled:
            positions = positions @ header["cell"] + header["origin"]
        charges = table["q"].to_numpy()[order] if "q" in table else None
        velocities = None
        if "vx" in table and self._fs_per_time_unit is not None:
            velocities = table[["vx", "vy", "vz"]].to_numpy()[order] / self._fs_per_time_unit
        return Frame(
            positions=np.ascontiguousarray(positions),
            numbers=self._numbers(table, where)[order],
            cell=header["cell"],
            pbc=header["pbc"],
            index=index,
            step=header.get("step"),
            time_fs=self._time(header),
            charges=charges,
            velocities=velocities,
            ids=table["id"].to_numpy()[order] if "id" in table else None,
        )

    def _time(self, header: dict) -> float | None:
        if "time" not in header or self._fs_per_time_unit is None:
            return None
        return header["time"] * self._fs_per_time_unit

    def _numbers(self, table: Any, where: str) -> np.ndarray:
        """Return atomic numbers [n_atoms] in file order."""
        if "element" in table:
            if self.elements is not None:
                warn_of_unused_elements(self.source.path)
                self.elements = None  # said once
            names = [str(name) for name in table["element"].cat.categories]
            _check_symbols(names, where)
            codes = table["element"].cat.codes.to_numpy()
            return np.array([atomic_numbers[name] for name in names])[codes]
        if "type" not in table or self.elements is None:
            raise TrajectoryError(
                f"{where}: no elements: wanted a column 'element' in the dump, or the elements of "
                "types 1, 2, ... (elements=['Na', 'C', ...], on the command line --elements Na,C)"
            )
        _check_symbols(self.elements, where)
        types = table["type"].to_numpy()
        if types.min() < 1 or types.max() > len(self.elements):
            raise TrajectoryError(
                f"{where}: elements for {len(self.elements)} types were given, "
                f"but the dump has types {types.min()} to {types.max()}"
            )
        return np.array([atomic_numbers[name] for name in self.elements])[types - 1]


def warn_of_unused_elements(path: Path) -> None:
    """Say that a file has symbols of its own, which go before elements by type."""
    logger.warning(
        "%s names the elements of its atoms: those given (--elements) are not used", path
    )


def _check_symbols(names: Sequence[str], where: str) -> None:
    unknown = [name for name in names if name not in atomic_numbers]
    if unknown:
        raise TrajectoryError(f"{where}: {unknown[0]!r} is not the symbol of an element")


def _position_columns(columns: list[str], where: str) -> tuple[tuple[str, ...], bool]:
    for names, is_scaled in _POSITIONS:
        if all(name in columns for name in names):
            return names, is_scaled
    raise TrajectoryError(f"{where}: no positions among the columns {' '.join(columns)}")


def _read_table(
    block: bytes, n_atoms: int, columns: list[str], positions: Sequence[str], where: str
) -> Any:
    """Return the wanted columns of the atom lines as a pandas frame."""
    pandas = require("pandas", extra="analysis")
    numeric = [*positions, *(c for c in ("q", "vx", "vy", "vz") if c in columns)]
    types: dict[str, Any] = {"id": np.int64, "type": np.int64, "element": "category"}
    types |= dict.fromkeys(numeric, np.float64)
    wanted = [name for name in columns if name in types]
    try:
        table = pandas.read_csv(
            io.BytesIO(block),
            sep=r"\s+",
            header=None,
            names=columns,
            usecols=wanted,
            dtype={name: types[name] for name in wanted},
            na_filter=False,
            index_col=False,
            skip_blank_lines=False,
        )
    except ValueError as failure:
        raise TrajectoryError(
            f"{where}: cannot read the atom lines as columns {' '.join(columns)}: {failure}"
        ) from None
    if len(table) != n_atoms:
        raise TrajectoryError(f"{where}: wanted {n_atoms} atom lines, got {len(table)}")
    return table


def _order(table: Any, where: str) -> np.ndarray:
    """Return the order [n_atoms] that sorts by id (a parallel run writes in any order)."""
    if "id" not in table:
        return np.arange(len(table))
    ids = table["id"].to_numpy()
    order = np.argsort(ids, kind="stable")
    if (np.diff(ids[order]) == 0).any():
        raise TrajectoryError(f"{where}: an atom id occurs twice")
    return order


def _box(flags: list[str], rows: list[list[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cell [3, 3], origin [3] and pbc [3] of the three lines of BOX BOUNDS.

    The bounds of a tilted box are those of the box around it
    (LAMMPS manual, Howto triclinic); ``abc origin`` marks a general triclinic box.
    """
    bounds = np.array(rows, dtype=float)
    if "abc" in flags:
        periodic = [flag.startswith("p") for flag in flags if flag[0] in "pfsm"][-3:]
        return bounds[:, :3].copy(), bounds[:, 3].copy(), np.array(periodic)
    pbc = np.array([flag.startswith("p") for flag in flags[-3:]] if flags else [True] * 3)
    low, high = bounds[:, 0].copy(), bounds[:, 1].copy()
    xy, xz, yz = bounds[:, 2] if bounds.shape[1] == 3 else (0.0, 0.0, 0.0)
    low[0] -= min(0.0, xy, xz, xy + xz)
    high[0] -= max(0.0, xy, xz, xy + xz)
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    length = high - low
    if not (np.isfinite(length).all() and (length > 0).all()):
        raise ValueError(f"the box has no volume: edges {length}")
    cell = np.array([[length[0], 0, 0], [xy, length[1], 0], [xz, yz, length[2]]])
    return cell, low, pbc
