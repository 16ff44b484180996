"""Stacks of solids and electrolyte along z."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
from ase import Atoms

from qnep.build.composition import compose
from qnep.build.crystals import trim
from qnep.build.electrolyte import describe
from qnep.build.packing import pack
from qnep.build.relax import check_contacts, push_apart

MAX_STRAIN = 0.05
SOLID_GAP = 2.5  # Å between two solids
MIN_THICKNESS = 5.0  # Å of electrolyte; a flat molecule with room to both walls


class MismatchError(ValueError):
    """Two solids do not fit on each other."""


class Region(IntEnum):
    """Value of the array ``region``."""

    ELECTRODE = 0
    SEI = 1
    ELECTROLYTE = 2
    PRODUCT = 3


def match_slabs(
    base: Atoms, cover: Atoms, width: float, max_strain: float = MAX_STRAIN
) -> tuple[Atoms, Atoms, float]:
    """Repeat two rectangular slabs until they fit; the cover takes the strain.

    Parameters
    ----------
    base, cover : smallest rectangular cells of the slabs, normal along z.
    width : Å, smallest extent along x and y; up to twice as much is searched for the best fit.
    max_strain : largest change of a length of the cover.

    Returns
    -------
    Both slabs and the largest strain.

    Raises
    ------
    MismatchError : skewed cells, or no fit below the largest strain.
    """
    for name, slab in (("base", base), ("cover", cover)):
        if not np.allclose(slab.cell.angles(), 90.0, atol=0.01):
            raise MismatchError(f"slab mismatch: the {name} has a skewed cell {slab.cell.angles()}")
    fits = [
        _best_fit(base.cell.lengths()[axis], cover.cell.lengths()[axis], width) for axis in (0, 1)
    ]
    strain = max(abs(fit[2]) for fit in fits)
    if strain > max_strain:
        raise MismatchError(
            f"slab mismatch: the best fit up to {2 * width:.0f} Å strains the cover by {100 * strain:.1f} %, limit "
            f"{100 * max_strain:.1f} %: make the cell wider or choose other facets"
        )
    base = base.repeat((fits[0][0], fits[1][0], 1))
    cover = cover.repeat((fits[0][1], fits[1][1], 1))
    cell = cover.cell.array.copy()
    cell[:2] = base.cell.array[:2]
    cover.set_cell(cell, scale_atoms=True)
    return base, cover, strain


def _best_fit(base: float, cover: float, width: float) -> tuple[int, int, float]:
    """Repeats of base and cover and the strain of the cover; the smallest cell within 0.2 % of the best."""
    first = max(1, int(np.ceil(width / base)))
    fits = []
    for n_base in range(first, 2 * first + 1):
        n_cover = max(1, round(n_base * base / cover))
        fits.append((n_base, n_cover, n_base * base / (n_cover * cover) - 1))
    best = min(abs(strain) for _, _, strain in fits)
    return next(fit for fit in fits if abs(fit[2]) <= max(best + 0.002, 0.02))


def stack_solids(slabs: Sequence[Atoms], gap: float = SOLID_GAP) -> Atoms:
    """Put slabs with the same plane cell on top of each other, the first at the bottom.

    The array ``region`` says ELECTRODE for the first and SEI for the others.

    Raises
    ------
    MismatchError : cells differ in the plane.
    """
    result = Atoms(cell=slabs[0].cell, pbc=(True, True, False))
    result.arrays["region"] = np.zeros(0, int)
    height = 0.0
    for k, slab in enumerate(slabs):
        if not np.allclose(slab.cell.array[:2], slabs[0].cell.array[:2], atol=1e-3):
            raise MismatchError(
                f"slab mismatch: solid {k} has plane vectors {slab.cell.array[:2].round(3).tolist()}, "
                f"the first {slabs[0].cell.array[:2].round(3).tolist()}"
            )
        layer = trim(slab)
        layer.positions[:, 2] += height
        layer.arrays["region"] = np.full(len(layer), Region.ELECTRODE if k == 0 else Region.SEI)
        result += layer
        height = layer.positions[:, 2].max() + gap
    return trim(result)


def make_interface(
    solid: Atoms,
    solvents: Mapping[str, float],
    salt: str | None = None,
    molarity: float = 0.0,
    n_atoms: int | None = None,
    thickness: float | None = None,
    density: float | None = None,
    n_electrodes: int = 1,
    gap: float = 2.0,
    vacuum: float = 15.0,
    seed: int = 1,
) -> Atoms:
    """Return an electrolyte on a solid.

    With one electrode the cell is periodic along z, so that the electrolyte lies between the solid and its image. With
    two the solid is mirrored on the other side and vacuum follows.

    Parameters
    ----------
    solid : slab or stack of slabs, normal along z.
    solvents, salt, molarity, density : of the electrolyte, see `compose`.
    n_atoms : of the whole cell; or
    thickness : of the electrolyte, Å. Exactly one of the two.
    gap : Å, between the outermost atoms of the solid and the space for the electrolyte, whose own atoms stay another
        1 Å inside.
    vacuum : Å, behind the two electrodes.
    seed : of the packing.

    Returns
    -------
    Atoms with ``molecule_id`` (0: solid), ``region`` and initial charges; `info` describes the electrolyte.

    Raises
    ------
    ValueError : no room for electrolyte, or see `compose`.
    """
    if n_electrodes not in (1, 2):
        raise ValueError(f"one or two electrodes, got {n_electrodes}")
    if not gap >= 0:
        raise ValueError(f"the gap must not be negative, got {gap:g} Å")
    solid = trim(solid)
    area = float(np.linalg.norm(np.cross(solid.cell[0], solid.cell[1])))
    composition = compose(
        solvents,
        salt,
        molarity,
        n_atoms=None if n_atoms is None else _room_for_electrolyte(n_atoms, solid, n_electrodes),
        volume=None if thickness is None else thickness * area,
        density=density,
    )
    if composition.volume / area < MIN_THICKNESS:
        raise ValueError(
            f"the electrolyte would be {composition.volume / area:.1f} Å thick, at least {MIN_THICKNESS:g} Å is "
            "needed: ask for more atoms or a narrower solid"
        )
    cell = solid.cell.array.copy()
    # Half a tolerance of the packing stays free at both walls, gaps are filled by the push apart.
    cell[2] = [0.0, 0.0, composition.volume / area]
    electrolyte = pack(composition.counts, cell, seed, is_periodic=(True, True, False))
    electrolyte.arrays["region"] = np.full(len(electrolyte), Region.ELECTROLYTE)
    atoms = _stacked(solid, electrolyte, gap, n_electrodes, vacuum)
    atoms = push_apart(atoms, is_fixed=atoms.arrays["molecule_id"] == 0)
    check_contacts(atoms)
    atoms.info.update(describe(composition))
    return atoms


def _room_for_electrolyte(n_atoms: int, solid: Atoms, n_electrodes: int) -> int:
    rest = n_atoms - n_electrodes * len(solid)
    if rest < 10:
        raise ValueError(
            f"{n_atoms} atoms leave {rest} for the electrolyte beside {n_electrodes} x {len(solid)} of the solid: "
            "ask for more atoms, or a thinner or narrower solid"
        )
    return rest


def _stacked(
    solid: Atoms, electrolyte: Atoms, gap: float, n_electrodes: int, vacuum: float
) -> Atoms:
    height = solid.positions[:, 2].max()
    length = electrolyte.cell[2, 2]
    result = _as_solid(solid)
    names = electrolyte.info["molecules"]
    electrolyte = electrolyte.copy()
    electrolyte.positions[:, 2] += height + gap
    result += electrolyte
    end = height + length + 2 * gap
    if n_electrodes == 2:
        other = _as_solid(solid)
        other.positions[:, 2] = end + height - other.positions[:, 2]
        result += other
        end += height + vacuum
    cell = solid.cell.array.copy()
    cell[2] = [0.0, 0.0, end]
    result.set_cell(cell)
    result.pbc = (True, True, n_electrodes == 1)
    result.info["molecules"] = names
    return result


def _as_solid(solid: Atoms) -> Atoms:
    result = Atoms(solid.numbers, solid.positions)
    result.arrays["molecule_id"] = np.zeros(len(solid), int)
    default = np.full(len(solid), Region.ELECTRODE)
    result.arrays["region"] = solid.arrays.get("region", default).copy()
    return result
