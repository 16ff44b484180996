"""What LAMMPS must be told about a structure beside its atoms: which of them are fixed, and where an open cell ends."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian

FACE_DISTANCE = (
    1.0  # Å; thermal motion is smaller, and LAMMPS loses atoms that leave through an open face
)


def fixed_atoms(atoms: Atoms) -> tuple[str, ...]:
    """Return the ids, as LAMMPS counts, of the atoms that constraints hold in place, as ranges: ("1:64", "97").

    Raises
    ------
    ValueError : a constraint that leaves some motion to its atoms, or none of the atoms is free.
    """
    fixed: set[int] = set()
    for constraint in atoms.constraints:
        # ASE reads a move_mask with three columns as one FixCartesian of each atom.
        is_whole = isinstance(constraint, FixAtoms) or (
            isinstance(constraint, FixCartesian) and np.all(constraint.mask)
        )
        if is_whole:
            fixed.update(int(i) for i in constraint.index)
        elif not (isinstance(constraint, FixCartesian) and not np.any(constraint.mask)):
            raise ValueError(
                f"wanted fixed atoms (FixAtoms) and no other constraint, got {type(constraint).__name__}: take it out "
                "of the structure, or write its LAMMPS commands into an input made with --write-only"
            )
    if fixed and len(fixed) == len(atoms):
        raise ValueError(f"wanted atoms that can move, got {len(atoms)} that are all fixed")
    return _ranges(i + 1 for i in fixed)


def _ranges(ids: Iterable[int]) -> tuple[str, ...]:
    bounds: list[list[int]] = []
    for i in sorted(ids):
        if bounds and i == bounds[-1][1] + 1:
            bounds[-1][1] = i
        else:
            bounds.append([i, i])
    return tuple(str(first) if first == last else f"{first}:{last}" for first, last in bounds)


def off_open_faces(atoms: Atoms) -> tuple[Atoms, float]:
    """Return atoms that keep a distance from the faces of a cell that is not periodic in z, and their shift in Å.

    Atoms that keep it already stay where they are; others are put in the middle along the third cell vector.

    Raises
    ------
    ValueError : there is not enough vacuum.
    """
    heights = atoms.get_scaled_positions(wrap=False)[:, 2]
    lowest, highest = heights.min(), heights.max()
    margin = FACE_DISTANCE * np.linalg.norm(atoms.cell.reciprocal()[2])  # as a share of the cell
    if lowest >= margin and highest <= 1 - margin:
        return atoms, 0.0
    if highest - lowest > 1 - 2 * margin:
        vacuum = (1 - highest + lowest) / margin * FACE_DISTANCE
        raise ValueError(
            f"wanted {2 * FACE_DISTANCE:g} Å of vacuum or more along z, got {vacuum:.3g} Å: LAMMPS loses atoms "
            "at a face that is not periodic, add vacuum"
        )
    share = (1 - lowest - highest) / 2
    atoms = atoms.copy()
    atoms.positions += share * atoms.cell[2]
    return atoms, float(share * atoms.cell.lengths()[2])
