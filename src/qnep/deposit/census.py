"""Who is where: sodium by region, molecules by whether they are still whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from ase.geometry import find_mic

from qnep.deposit.frame import Frame
from qnep.deposit.regions import Regions, bonds_of, fragments

BROKEN = 1.5  # a bond longer than this times the sum of the covalent radii is broken
SEI_MARGIN = 1.2  # Å; half a Na-F or Na-O contact: an ion in the outermost layer is of the SEI, one on top is not
SALT_ELEMENTS = frozenset({"P", "B", "S", "Cl", "As"})  # a molecule with one is a salt's anion


@dataclass(frozen=True)
class Molecule:
    """A molecule of the electrolyte as it was at the start."""

    kind: str  # "solvent" or "salt"
    bonds: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Census:
    """Counts of one moment. ``deposited + in_sei + in_electrolyte`` is all sodium that is not of the anode."""

    deposited: int
    in_sei: int
    in_electrolyte: int
    min_na_charge: float  # e
    na_lost_percent: float
    solvent_lost_percent: float
    salt_lost_percent: float


def find_molecules(atoms: Atoms, electrolyte: Sequence[int]) -> tuple[Molecule, ...]:
    """Return the molecules of the electrolyte by the bonds they have now; single ions are none."""
    mask = np.isin(np.arange(len(atoms)), electrolyte)
    bonds = bonds_of(atoms, mask)
    symbols = np.array(atoms.get_chemical_symbols())
    molecules = []
    for group in fragments(len(atoms), bonds):
        inside = np.isin(bonds[:, 0], group)
        if inside.any():
            kind = "salt" if SALT_ELEMENTS & set(symbols[group]) else "solvent"
            molecules.append(Molecule(kind, tuple((int(i), int(j)) for i, j in bonds[inside])))
    return tuple(molecules)


def take_census(
    frame: Frame,
    regions: Regions,
    molecules: Sequence[Molecule],
    carriers: Sequence[int],
    residents: Collection[int],
    arrival_height: float,
) -> Census:
    """Count sodium by height and molecules by their bonds.

    Parameters
    ----------
    frame : now.
    regions : of the start.
    molecules : of the start.
    carriers : sodium that was in the electrolyte at the start or came in since; of these, the ones that are neither
        deposited nor in the electrolyte are lost (to the SEI).
    residents : sodium of the SEI that touched the anode from the start: it is not deposited where it is.
    arrival_height : Å above the anode's surface; sodium below it is deposited.
    """
    place = sodium_places(frame, regions, residents, arrival_height)
    carried = [place[i] for i in carriers]
    charges = frame.charges[list(place)]
    return Census(
        deposited=sum(where == "deposited" for where in place.values()),
        in_sei=sum(where == "sei" for where in place.values()),
        in_electrolyte=sum(where == "electrolyte" for where in place.values()),
        min_na_charge=float(charges.min()) if len(charges) else float("nan"),
        na_lost_percent=_percent(sum(where == "sei" for where in carried), len(carried)),
        solvent_lost_percent=_lost(frame, molecules, "solvent"),
        salt_lost_percent=_lost(frame, molecules, "salt"),
    )


def find_residents(frame: Frame, regions: Regions, arrival_height: float) -> tuple[int, ...]:
    """Sodium of the SEI that lies below the arrival height (Å) in the frame of the start."""
    heights = regions.heights(frame.positions)
    return tuple(i for i in regions.sei if frame.symbols[i] == "Na" and heights[i] < arrival_height)


def sodium_places(
    frame: Frame, regions: Regions, residents: Collection[int], arrival_height: float
) -> dict[int, str]:
    """Index -> "deposited", "sei" or "electrolyte", for all sodium that is not of the anode."""
    heights = regions.heights(frame.positions)
    top = sei_top(frame, regions, arrival_height)
    mine = np.flatnonzero(frame.is_element("Na") & ~np.isin(np.arange(len(heights)), regions.anode))
    places = {}
    for i in mine.tolist():
        if heights[i] < arrival_height and i not in residents:
            places[i] = "deposited"
        else:
            places[i] = "sei" if heights[i] < top else "electrolyte"
    return places


def sei_top(frame: Frame, regions: Regions, arrival_height: float) -> float:
    """Height (Å) at which the SEI ends: 95 % of its atoms that are not sodium lie deeper by SEI_MARGIN."""
    fixed = [i for i in regions.sei if frame.symbols[i] != "Na"]
    if not fixed:
        return arrival_height
    heights = regions.heights(frame.positions)[fixed]
    return max(arrival_height, float(np.percentile(heights, 95)) + SEI_MARGIN)


def _lost(frame: Frame, molecules: Sequence[Molecule], kind: str) -> float:
    chosen = [molecule for molecule in molecules if molecule.kind == kind]
    return _percent(sum(not _is_whole(frame, molecule) for molecule in chosen), len(chosen))


def _is_whole(frame: Frame, molecule: Molecule) -> bool:
    first, second = np.array(molecule.bonds).T
    radii = covalent_radii[[atomic_numbers[symbol] for symbol in frame.symbols]]
    vectors = frame.positions[second] - frame.positions[first]
    _, lengths = find_mic(vectors, frame.cell, frame.pbc)
    return bool((lengths < BROKEN * (radii[first] + radii[second])).all())


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0
