"""Crystals of metals and SEI products from space-group data, and slabs cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk, surface
from ase.spacegroup import crystal

# Lattice constants at room temperature, Å. CRC Handbook of Chemistry and Physics, "Crystal structures and lattice
# parameters of elements". PBE has 4.20 Å for Na.
BCC_METALS = {"Na": 4.2906, "Li": 3.5093, "K": 5.321}


@dataclass(frozen=True)
class CrystalData:
    """A crystal as a space group describes it.

    Parameters
    ----------
    symbols, basis : elements and fractional positions of the asymmetric unit.
    spacegroup : number.
    cellpar : a, b, c in Å and the angles in degrees.
    source : of the numbers.
    setting : of the space group.
    """

    symbols: Sequence[str]
    basis: Sequence[tuple[float, float, float]]
    spacegroup: int
    cellpar: tuple[float, float, float, float, float, float]
    source: str
    setting: int = 1


_ROCKSALT = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
_ANTIFLUORITE = ((0.25, 0.25, 0.25), (0.0, 0.0, 0.0))
_WYCKOFF = "Wyckoff, Crystal Structures vol. 1, 2nd ed., Interscience (1963)"


def _cubic(a: float) -> tuple[float, float, float, float, float, float]:
    return (a, a, a, 90.0, 90.0, 90.0)


CRYSTALS = {
    "NaF": CrystalData(("Na", "F"), _ROCKSALT, 225, _cubic(4.634), _WYCKOFF),
    "LiF": CrystalData(("Li", "F"), _ROCKSALT, 225, _cubic(4.027), _WYCKOFF),
    "KF": CrystalData(("K", "F"), _ROCKSALT, 225, _cubic(5.347), _WYCKOFF),
    "NaH": CrystalData(("Na", "H"), _ROCKSALT, 225, _cubic(4.880), _WYCKOFF),
    "LiH": CrystalData(("Li", "H"), _ROCKSALT, 225, _cubic(4.083), _WYCKOFF),
    "Na2O": CrystalData(("Na", "O"), _ANTIFLUORITE, 225, _cubic(5.55), _WYCKOFF),
    "Li2O": CrystalData(("Li", "O"), _ANTIFLUORITE, 225, _cubic(4.619), _WYCKOFF),
    # Average structure of the modulated gamma phase.
    "Na2CO3": CrystalData(
        ("Na", "Na", "Na", "C", "O", "O"),
        (
            (0.0, 0.0, 0.0),
            (0.0, 0.0, 0.5),
            (0.1706, 0.5, 0.7478),
            (0.1644, 0.5, 0.2489),
            (0.1011, 0.2936, 0.2856),
            (0.2894, 0.5, 0.1777),
        ),
        12,
        (8.905, 5.237, 6.045, 90.0, 101.35, 90.0),
        "van Aalst et al., Acta Cryst. B 32, 47 (1976), doi:10.1107/S056774087600233X",
    ),
    "Li2CO3": CrystalData(
        ("Li", "C", "O", "O"),
        (
            (0.1965, 0.4486, 0.8344),
            (0.0, 0.0657, 0.25),
            (0.0, 0.3209, 0.25),
            (0.1459, -0.0663, 0.3127),
        ),
        15,
        (8.3593, 4.9725, 6.1975, 90.0, 114.83, 90.0),
        "Effenberger and Zemann, Z. Kristallogr. 150, 133 (1979), doi:10.1524/zkri.1979.150.14.133",
    ),
    # H is put 0.96 Å from O; x-rays do not see it.
    "NaOH": CrystalData(
        ("Na", "O", "H"),
        ((0.0, 0.163, 0.25), (0.0, 0.371, 0.25), (0.0, 0.4554, 0.25)),
        63,
        (3.401, 11.378, 3.398, 90.0, 90.0, 90.0),
        "Stehr, Z. Kristallogr. 125, 332 (1967), doi:10.1524/zkri.1967.125.125.332",
    ),
    "LiOH": CrystalData(
        ("Li", "O", "H"),
        ((0.0, 0.0, 0.0), (0.0, 0.5, 0.1951), (0.0, 0.5, 0.4145)),
        129,
        (3.549, 3.549, 4.334, 90.0, 90.0, 90.0),
        "Mair, Acta Cryst. A 34, 542 (1978), doi:10.1107/S0567739478001151",
    ),
}


def make_crystal(name: str, lattice_constant: float | None = None) -> Atoms:
    """Return the conventional cell of a metal (Na, Li, K) or an SEI product.

    Parameters
    ----------
    lattice_constant : Å, replaces that of the literature; other cell lengths scale with it.

    Raises
    ------
    ValueError : unknown crystal.
    """
    if name in BCC_METALS:
        atoms = bulk(name, "bcc", a=BCC_METALS[name], cubic=True)
    elif name in CRYSTALS:
        data = CRYSTALS[name]
        atoms = crystal(
            data.symbols,
            data.basis,
            spacegroup=data.spacegroup,
            cellpar=data.cellpar,
            setting=data.setting,
        )
    else:
        raise ValueError(
            f"unknown crystal {name!r}; there are {', '.join([*BCC_METALS, *CRYSTALS])}"
        )
    if lattice_constant is not None:
        _check_positive("lattice_constant", lattice_constant)
        atoms.set_cell(atoms.cell * (lattice_constant / atoms.cell.lengths()[0]), scale_atoms=True)
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def cut_slab(
    unit: Atoms, miller: tuple[int, int, int], thickness: float, width: float = 0.0
) -> Atoms:
    """Return a slab of a crystal, normal along z, with nothing above and below.

    Parameters
    ----------
    unit : conventional cell.
    miller : indices of the facet.
    thickness : Å; whole repeats of the facet's cell are taken, at least this much.
    width : Å; smallest distance between opposite faces of the cell in the plane.

    Returns
    -------
    Atoms whose third cell vector is (0, 0, height) with height the extent of the atoms; periodic in the plane.

    Raises
    ------
    ValueError : indices (0, 0, 0) or a thickness that is not positive.
    """
    _check_positive("thickness", thickness)
    if not any(miller):
        raise ValueError("miller indices must not all be zero")
    layer = surface(unit, miller, 1, periodic=True)
    height = layer.cell[2, 2]
    slab = surface(unit, miller, int(np.ceil(thickness / height - 1e-9)), periodic=True)
    slab = _standard_form(slab)
    slab = slab.repeat((*_repeats(slab.cell.array, width), 1))
    slab.wrap(pbc=(True, True, False))
    return trim(slab)


def trim(slab: Atoms) -> Atoms:
    """Return a slab that starts at z = 0, its third cell vector as long as the extent of its atoms."""
    slab = slab.copy()
    slab.positions[:, 2] -= slab.positions[:, 2].min()
    cell = slab.cell.array.copy()
    cell[2] = [0.0, 0.0, max(slab.positions[:, 2].max(), 1e-3)]
    slab.set_cell(cell)
    slab.pbc = (True, True, False)
    return slab


def _standard_form(slab: Atoms) -> Atoms:
    """First cell vector along x, second in the xy plane."""
    turned = slab.copy()
    cell, rotation = slab.cell.standard_form()
    turned.set_cell(cell)
    turned.positions = slab.positions @ rotation.T
    return turned


def _repeats(cell: np.ndarray, width: float) -> tuple[int, int]:
    """How often a cell fits until opposite faces are `width` apart."""
    area = np.linalg.norm(np.cross(cell[0], cell[1]))
    distances = area / np.linalg.norm(cell[[1, 0]], axis=1)
    n1, n2 = np.maximum(np.ceil(width / distances - 1e-9), 1).astype(int)
    return int(n1), int(n2)


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value:g} Å")
