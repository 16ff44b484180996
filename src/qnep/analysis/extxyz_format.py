"""Extended XYZ, as ASE, GPUMD (``dump.xyz``, ``movie.xyz``) and qnep write it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict

from qnep._optional import require
from qnep.analysis.errors import TrajectoryError, TruncatedFrame
from qnep.analysis.frame import Frame
from qnep.analysis.text_source import TextSource

_POSITIONS = ("pos", "positions")
_CHARGES = ("charge", "charges", "initial_charges", "q")
_VELOCITIES = ("vel", "velo", "velocity", "velocities")
_TIMES = ("time_fs", "Time", "time")  # GPUMD writes Time in fs
_LAMMPS_MARK = "Timestep"  # dump extxyz: Time and vel are in the units of the run, which the file does not tell
_STEPS = ("step", "Step", "Timestep", "timestep")
_DEFAULT_PROPERTIES = "species:S:1:pos:R:3"


class ExtxyzReader:
    """Reads frame after frame.

    Parameters
    ----------
    source : the file.
    """

    why_no_time = "no Time or time_fs in the comment line, or that of LAMMPS, without units"

    def __init__(self, source: TextSource):
        self.source = source

    def read(self, index: int) -> Frame | None:
        """Return the next frame, or None at the end of the file.

        Raises
        ------
        TruncatedFrame : where the file ends within the frame.
        TrajectoryError : where the text is not extended XYZ.
        """
        n_atoms = self._count()
        if n_atoms is None:
            return None
        comment = self.source.line()
        first_line = self.source.line_number + 1
        block = self.source.block(n_atoms)
        if block is None:
            raise TruncatedFrame(index)
        return self._frame(index, n_atoms, comment, block, first_line)

    def skip(self, index: int) -> bool:
        """Pass over a frame without reading it; False at the end of the file."""
        n_atoms = self._count()
        if n_atoms is not None and self.source.block(n_atoms + 1) is None:
            raise TruncatedFrame(index)
        return n_atoms is not None

    def _count(self) -> int | None:
        line = self.source.line()
        while line and not line.strip():
            line = self.source.line()
        if not line:
            return None
        try:
            return int(line)
        except ValueError:
            raise TrajectoryError(
                f"{self.source.path}, line {self.source.line_number}: wanted the number of atoms "
                f"that opens a frame of extended XYZ, got {line[:60]!r}"
            ) from None

    def _frame(
        self, index: int, n_atoms: int, comment: str, block: bytes, first_line: int
    ) -> Frame:
        info = key_val_str_to_dict(comment)
        where = f"{self.source.path}, frame {index} (line {first_line - 1})"
        columns, width = _columns(str(info.get("Properties", _DEFAULT_PROPERTIES)), where)
        table = _read_table(block, n_atoms, width, columns, where)
        cell, pbc = _box(info, where)
        positions = _vectors(table, columns, _POSITIONS, 3)
        if positions is None:
            raise TrajectoryError(f"{where}: no positions (pos:R:3) among the Properties")
        charges = _vectors(table, columns, _CHARGES, 1)
        is_of_lammps = _LAMMPS_MARK in info
        step = _first(info, _STEPS)
        time = _first(info, ("time_fs",) if is_of_lammps else _TIMES)
        return Frame(
            positions=positions,
            numbers=_numbers(table[columns["species"][0]], where),
            cell=cell,
            pbc=pbc,
            index=index,
            step=None if step is None else int(step),
            time_fs=None if time is None else float(time),
            charges=None if charges is None else charges[:, 0],
            velocities=None if is_of_lammps else _vectors(table, columns, _VELOCITIES, 3),
            energy=float(info["energy"]) if "energy" in info else None,
        )


def _columns(properties: str, where: str) -> tuple[dict[str, tuple[int, int]], int]:
    """Return {name: (first column, number of columns)} and the number of columns of a line."""
    fields = properties.split(":")
    columns, at = {}, 0
    try:
        for name, count in zip(fields[::3], fields[2::3], strict=True):
            columns[name] = (at, int(count))
            at += int(count)
    except ValueError:
        raise TrajectoryError(f"{where}: cannot read Properties={properties}") from None
    if "species" not in columns:
        raise TrajectoryError(f"{where}: no elements (species:S:1) among the Properties")
    return columns, at


def _read_table(block: bytes, n_atoms: int, width: int, columns: dict, where: str) -> Any:
    """Return the wanted columns of the atom lines as a pandas frame.

    Strings stay strings and only the columns that a Frame holds are converted.
    """
    pandas = require("pandas", extra="analysis")
    wanted = (*_POSITIONS, *_CHARGES, *_VELOCITIES)
    spans = [columns[name] for name in wanted if name in columns]
    numeric = [c for first, count in spans for c in range(first, first + count)]
    species = columns["species"][0]
    types = dict.fromkeys(numeric, np.float64) | {species: "category"}
    try:
        table = pandas.read_csv(
            io.BytesIO(block),
            sep=r"\s+",
            header=None,
            names=list(range(width)),
            dtype=types,
            usecols=[species, *numeric],
            quoting=3,
            na_filter=False,
            index_col=False,
            skip_blank_lines=False,
        )
    except ValueError as failure:
        raise TrajectoryError(
            f"{where}: cannot read the atom lines as {width} columns: {failure}"
        ) from None
    if len(table) != n_atoms:
        raise TrajectoryError(f"{where}: wanted {n_atoms} atom lines of {width} columns")
    return table


def _vectors(table: Any, columns: dict, names: tuple[str, ...], width: int) -> np.ndarray | None:
    """Return the property of the first known name, [n_atoms, width]."""
    for name in names:
        if name in columns and columns[name][1] == width:
            first = columns[name][0]
            return np.ascontiguousarray(table[list(range(first, first + width))].to_numpy())
    return None


def _numbers(species: Any, where: str) -> np.ndarray:
    """Return atomic numbers [n_atoms] of a categorical column of symbols."""
    names = [str(name) for name in species.cat.categories]
    unknown = [name for name in names if name not in atomic_numbers]
    if unknown:
        raise TrajectoryError(f"{where}: {unknown[0]!r} is not the symbol of an element")
    return np.array([atomic_numbers[name] for name in names])[species.cat.codes.to_numpy()]


def _first(info: dict, names: tuple[str, ...]) -> Any:
    return next((info[name] for name in names if name in info), None)


def _box(info: dict, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return cell [3, 3] (vectors as rows) and pbc [3]."""
    if "Lattice" not in info:
        pbc = np.broadcast_to(np.asarray(info.get("pbc", True), dtype=bool), 3)
        if pbc.any():
            raise TrajectoryError(
                f'{where}: no box: wanted Lattice="ax ay az bx ..." in the comment line '
                '(or pbc="F F F" for a molecule without a box)'
            )
        return np.zeros((3, 3)), pbc.copy()
    lattice = np.asarray(info["Lattice"], dtype=float)
    if lattice.shape != (3, 3) or not np.isfinite(lattice).all():
        raise TrajectoryError(f"{where}: Lattice must be nine finite numbers")
    pbc = np.broadcast_to(np.asarray(info.get("pbc", True), dtype=bool), 3)
    return lattice.T.copy(), pbc.copy()  # ASE's parser hands the vectors over as columns
