"""One moment of a deposition run: exactly what LAMMPS needs to go on, as text with all digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, atomic_numbers

PICOSECOND = 1000 * units.fs  # in ASE's unit of time
COLUMNS = "id element x y z vx vy vz q"


@dataclass(frozen=True)
class Frame:
    """Positions (Å), velocities (Å/ps), charges (e), cell (rows, Å), periodicity and step of a run."""

    symbols: tuple[str, ...]
    positions: np.ndarray  # [n_atoms, 3]
    velocities: np.ndarray  # [n_atoms, 3]
    charges: np.ndarray  # [n_atoms]
    cell: np.ndarray  # [3, 3]
    pbc: tuple[bool, ...]
    step: int = 0

    @classmethod
    def from_atoms(cls, atoms: Atoms, temperature: float, seed: int) -> Frame:
        """Take a structure; atoms at rest get Maxwell-Boltzmann velocities of the temperature (K).

        Raises
        ------
        ValueError : the cell is not one that LAMMPS takes as it is: first vector along x, second in the xy plane.
        """
        cell = atoms.cell.array
        if abs(np.triu(cell, 1)).max() > 1e-9 or np.diag(cell).min() <= 0:
            raise ValueError(
                "the cell must have its first vector along x and its second in the xy plane, "
                f"got {cell.tolist()}; turn the structure (atoms.set_cell, atoms.rotate)"
            )
        velocities = atoms.get_velocities() * PICOSECOND
        if not velocities.any():
            velocities = _thermal_velocities(atoms.get_masses(), temperature, seed)
        return cls(
            tuple(atoms.get_chemical_symbols()),
            atoms.get_positions(),
            velocities,
            atoms.get_initial_charges(),
            cell,
            tuple(bool(periodic) for periodic in atoms.pbc),
        )

    @property
    def atoms(self) -> Atoms:
        return Atoms(
            list(self.symbols), self.positions, cell=self.cell, pbc=self.pbc,
            velocities=self.velocities / PICOSECOND,
        )  # fmt: skip

    def is_element(self, *symbols: str) -> np.ndarray:
        return np.isin(np.array(self.symbols), symbols)

    def with_atom(self, symbol: str, position: np.ndarray, velocity: np.ndarray) -> Frame:
        """Return a frame with one more, neutral, atom at the end."""
        return replace(
            self,
            symbols=(*self.symbols, symbol),
            positions=np.vstack([self.positions, position]),
            velocities=np.vstack([self.velocities, velocity]),
            charges=np.append(self.charges, 0.0),
        )


def _thermal_velocities(masses: np.ndarray, temperature: float, seed: int) -> np.ndarray:
    widths = np.sqrt(units.kB * temperature / masses) * PICOSECOND
    velocities = np.random.default_rng(seed).normal(size=(len(masses), 3)) * widths[:, None]
    momentum = (masses[:, None] * velocities).sum(axis=0)
    return velocities - momentum / masses.sum()


def write_data(path: Path, frame: Frame, elements: Sequence[str]) -> None:
    """Write a LAMMPS data file (atom_style charge, metal units), atom types in the order of `elements`."""
    cell = frame.cell
    lines = [
        f"qnep deposit, step {frame.step}",
        f"{len(frame.symbols)} atoms",
        f"{len(elements)} atom types",
        *(f"0 {cell[k, k]:.17g} {axis}lo {axis}hi" for k, axis in enumerate("xyz")),
        f"{cell[1, 0]:.17g} {cell[2, 0]:.17g} {cell[2, 1]:.17g} xy xz yz",
        "\nMasses\n",
        *(
            f"{kind} {atomic_masses[atomic_numbers[symbol]]:.17g} # {symbol}"
            for kind, symbol in enumerate(elements, start=1)
        ),
        "\nAtoms # charge\n",
    ]
    for i, (symbol, charge, place) in enumerate(
        zip(frame.symbols, frame.charges, frame.positions, strict=True), start=1
    ):
        lines.append(f"{i} {elements.index(symbol) + 1} {charge:.17g} {_numbers(place)}")
    lines.append("\nVelocities\n")
    lines += [f"{i} {_numbers(row)}" for i, row in enumerate(frame.velocities, start=1)]
    path.write_text("\n".join(lines) + "\n")


def _numbers(row: np.ndarray) -> str:
    return " ".join(f"{number:.17g}" for number in row)


def write_frame(path: Path, frame: Frame) -> None:
    """Write a frame in the format that `write_dump ... custom` of LAMMPS uses for the end of an interval."""
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = frame.cell
    lows = (min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0)
    highs = (lx + max(0.0, xy, xz, xy + xz), ly + max(0.0, yz), lz)
    kinds = " ".join("pp" if periodic else "ff" for periodic in frame.pbc)
    lines = [
        f"ITEM: TIMESTEP\n{frame.step}\nITEM: NUMBER OF ATOMS\n{len(frame.symbols)}",
        f"ITEM: BOX BOUNDS xy xz yz {kinds}",
        *(
            f"{low:.17g} {high:.17g} {tilt:.17g}"
            for low, high, tilt in zip(lows, highs, (xy, xz, yz), strict=True)
        ),
        f"ITEM: ATOMS {COLUMNS}",
    ]
    rows = zip(frame.symbols, frame.positions, frame.velocities, frame.charges, strict=True)
    for i, (symbol, place, velocity, charge) in enumerate(rows, start=1):
        lines.append(f"{i} {symbol} {_numbers(place)} {_numbers(velocity)} {charge:.17g}")
    path.write_text("\n".join(lines) + "\n")


def read_frame(path: Path) -> Frame:
    """Read what `write_frame`, or LAMMPS with the same columns and ``sort id``, wrote.

    Raises
    ------
    ValueError : the file is not whole.
    """
    lines = path.read_text().splitlines()
    try:
        n_atoms = int(lines[3])
        kinds = lines[4].split()[-3:]
        bounds = np.array([[float(word) for word in line.split()] for line in lines[5:8]])
        rows = [line.split() for line in lines[9 : 9 + n_atoms]]
        if len(rows) != n_atoms or lines[8] != f"ITEM: ATOMS {COLUMNS}":
            raise ValueError(f"{n_atoms} atoms announced, {len(rows)} found")
        numbers = np.array([[float(word) for word in row[2:]] for row in rows])
    except (IndexError, ValueError) as failure:
        raise ValueError(f"{path} is not a whole frame: {failure}") from failure
    tilts = bounds[:, 2] if bounds.shape[1] == 3 else np.zeros(3)
    lengths, origin = _box(bounds, tilts)
    cell = np.diag(lengths)
    cell[1, 0], cell[2, 0], cell[2, 1] = tilts
    return Frame(
        tuple(row[1] for row in rows),
        numbers[:, 0:3] - origin,
        numbers[:, 3:6],
        numbers[:, 6],
        cell,
        tuple(kind == "pp" for kind in kinds),
        int(lines[1]),
    )


def _box(bounds: np.ndarray, tilts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and origin of the box from the bounding box that LAMMPS writes for tilted cells."""
    xy, xz, yz = tilts
    low = bounds[:, 0] - [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
    high = bounds[:, 1] - [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
    return high - low, low
