"""DCD, XTC and whatever else MDAnalysis reads, with a topology beside it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.geometry import cellpar_to_cell

from qnep._optional import require
from qnep.analysis.errors import TrajectoryError, TruncatedFrame
from qnep.analysis.frame import Frame

# Formats whose files tell the time in ps. MDAnalysis invents 1 ps between the frames of others, and reads the
# time in a DCD file in AKMA units, which LAMMPS does not write.
_FORMATS_WITH_TIMES = frozenset(["XTC", "TRR", "TRZ", "TNG", "NCDF", "H5MD", "TRC"])
_DEFAULT_DT = 1.0  # ps, of an array in memory for which nobody gave one
_FORMATS_WITH_STEPS = frozenset(["XTC", "TRR", "TNG", "H5MD", "TRC", "LAMMPSDUMP"])


class UniverseReader:
    """Reads frame after frame from an MDAnalysis universe.

    Parameters
    ----------
    universe : with a trajectory.
    numbers : (n_atoms,) atomic numbers; None takes the elements of the topology.
    elements : symbols of the topology's types, for topologies that know only types.
    """

    why_no_time = "only formats that hold times in ps are believed, as XTC and TRR; DCD is not"

    def __init__(
        self,
        universe: Any,
        numbers: np.ndarray | None = None,
        elements: Sequence[str] | None = None,
    ):
        self.universe = universe
        self.numbers = topology_numbers(universe.atoms, elements) if numbers is None else numbers
        self.n_frames = len(universe.trajectory)
        self._next = 0

    @property
    def fraction_read(self) -> float:
        """How far into the trajectory (0 to 1)."""
        return self._next / max(1, self.n_frames)

    def read(self, index: int) -> Frame | None:
        """Return the next frame, or None at the end of the trajectory."""
        if index >= self.n_frames:
            return None
        try:
            with _quiet_mdanalysis():
                timestep = self.universe.trajectory[index]
        except (OSError, EOFError, ValueError, IndexError):
            raise TruncatedFrame(index) from None
        self._next = index + 1
        return frame_of_timestep(timestep, self.numbers, index, self.universe.trajectory)

    def skip(self, index: int) -> bool:
        """Pass over a frame; False at the end of the trajectory."""
        return index < self.n_frames

    def close(self) -> None:
        """Close the trajectory."""
        self.universe.trajectory.close()


@contextmanager
def _quiet_mdanalysis() -> Iterator[None]:
    """Hold back its warnings about missing attributes, offsets and coming changes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def frame_of_timestep(timestep: Any, numbers: np.ndarray, index: int, trajectory: Any) -> Frame:
    """Return a frame of MDAnalysis' current timestep of a trajectory.

    It has a step and a time only where the format holds them (DCD holds steps only), and a time where it is an array
    in memory with a ``dt`` other than MDAnalysis' own 1 ps.
    """
    dimensions = timestep.dimensions
    has_box = dimensions is not None and np.all(dimensions[:3] > 0)
    cell = cellpar_to_cell(dimensions) if has_box else np.zeros((3, 3))
    return Frame(
        positions=np.asarray(timestep.positions, dtype=float),
        numbers=numbers,
        cell=cell,
        pbc=np.full(3, has_box),
        index=index,
        step=_step(timestep, trajectory),
        time_fs=_time_fs(timestep, trajectory),
    )


def _format_names(trajectory: Any) -> set[str]:
    names = trajectory.format
    return {names} if isinstance(names, str) else set(names)


def _step(timestep: Any, trajectory: Any) -> int | None:
    """Return the step of the molecular dynamics, None where the file does not tell it."""
    names = _format_names(trajectory)
    if "DCD" in names:  # MDAnalysis puts the number of the frame in its place
        header = trajectory._file.header
        return int(header["istart"] + timestep.frame * header["nsavc"])
    step = timestep.data.get("step") if names & _FORMATS_WITH_STEPS else None
    return None if step is None else int(step)


def _time_fs(timestep: Any, trajectory: Any) -> float | None:
    """Return the time, None where neither the file nor who made an array in memory tells it."""
    names = _format_names(trajectory)
    is_told = names & _FORMATS_WITH_TIMES or ("MEMORY" in names and trajectory.dt != _DEFAULT_DT)
    return 1000.0 * timestep.time if is_told and "time" in timestep.data else None


def open_universe(path: Path, topology: Path) -> tuple[Any, np.ndarray | None]:
    """Return a universe and, where the topology told them, the atomic numbers.

    Raises
    ------
    TrajectoryError : where MDAnalysis cannot read the pair of files.
    """
    mda = require("MDAnalysis", extra="analysis")
    from qnep.analysis.trajectory import is_text_trajectory, open_trajectory

    try:
        with _quiet_mdanalysis():
            if not is_text_trajectory(topology):
                return mda.Universe(str(topology), str(path)), None
            with open_trajectory(topology) as first:
                numbers = next(iter(first)).numbers
            universe = mda.Universe.empty(len(numbers), trajectory=True)
            universe.load_new(str(path))
    except (ValueError, OSError, TypeError) as failure:
        raise TrajectoryError(f"{path} with topology {topology}: {failure}") from None
    return universe, numbers


def topology_numbers(atoms: Any, elements: Sequence[str] | None) -> np.ndarray:
    """Return atomic numbers of an MDAnalysis atom group.

    The elements of the topology come first, then ``elements`` by type number, then
    atom names or types that are symbols of elements.
    """
    if elements is not None and hasattr(atoms, "types"):
        return _numbers_of_types(atoms.types, elements)
    for attribute in ("elements", "types", "names"):
        symbols = [str(s).capitalize() for s in getattr(atoms, attribute, [])]
        if symbols and all(symbol in atomic_numbers and symbol != "X" for symbol in symbols):
            return np.array([atomic_numbers[symbol] for symbol in symbols])
    raise TrajectoryError(
        "no elements: the topology has no elements, and its types and names are not symbols; "
        "give the elements of types 1, 2, ... (elements=['Na', 'C', ...], --elements Na,C)"
    )


def _numbers_of_types(types: Any, elements: Sequence[str]) -> np.ndarray:
    try:
        indices = np.array([int(t) for t in types])
    except ValueError:
        raise TrajectoryError(
            f"elements were given for numbered types, but the topology has type {types[0]!r}"
        ) from None
    if indices.min() < 1 or indices.max() > len(elements):
        raise TrajectoryError(
            f"elements for {len(elements)} types were given, "
            f"but the topology has types {indices.min()} to {indices.max()}"
        )
    return np.array([atomic_numbers[symbol] for symbol in elements])[indices - 1]
