"""Places products and intermediates where a study wants them: in the solvent, at the interface, in the substrate."""

from __future__ import annotations

from collections import Counter

import numpy as np
from ase import Atoms

from qnep.build.electrolyte import list_counts
from qnep.build.interface import Region
from qnep.build.ions import SolidIons
from qnep.build.molecules import make_molecule
from qnep.build.packing import random_rotation
from qnep.build.relax import push_apart

PLACES = ("bulk", "interface", "substrate")
CLEARANCE = 1.8  # Å; what is closer than this gives way, or the place is not taken
N_TRIALS = 200
INTERFACE_DEPTH = 3.0  # Å above the solid's outermost atoms


def insert_fragments(
    atoms: Atoms, name: str, count: int, place: str, seed: int = 1, trials: int = N_TRIALS
) -> Atoms:
    """Return the structure with copies of a molecule or ion cluster in it.

    Each copy takes, of `trials` random positions and orientations, the one with most room. Whole solvent molecules
    that it touches are taken out, and in the substrate atoms of the solid: of a salt whole ions, and as many more, the
    nearest, as keep it neutral. Never ions of the electrolyte, what was inserted before, or, elsewhere, the solid.

    Parameters
    ----------
    atoms : from `make_interface` or `make_electrolyte`.
    name : of `qnep.build.molecules.KNOWN`, or a SMILES.
    count : copies.
    place : "bulk" (middle half of the electrolyte), "interface" (up to 3 Å above the solid) or "substrate" (in the
        upper half of the solid).
    seed : of positions and orientations.

    Returns
    -------
    The structure, its composition in `info` counted anew. Density and molarity are no longer in `info`: they were those
    of the electrolyte before some of it gave way.

    Raises
    ------
    ValueError : unknown place or molecule, a solid that is not there, no position without touching what cannot give
        way, or a salt with too few ions left to stay neutral.
    """
    if place not in PLACES:
        raise ValueError(f"place must be one of {', '.join(PLACES)}, got {place!r}")
    if count < 1:
        raise ValueError(f"at least one copy, got {count}")
    generator = np.random.default_rng(seed)
    result = _with_regions(atoms)
    n_before = _n_products(result)
    fragment = make_molecule(name, seed)
    for _ in range(count):
        low, high = _window(result, place)
        ions = SolidIons(result, _solid_parts(result))
        gives_way = _gives_way(result, place) & ions.is_known
        placed = _roomiest(result, gives_way, fragment, low, high, generator, trials)
        result = _make_room(result, placed, ions)
        result = _append(result, placed)
    if _n_products(result) != n_before + count:
        raise ValueError(
            f"of {n_before + count} inserted molecules {_n_products(result)} are left: "
            "insert fewer, or enlarge the cell"
        )
    _count_anew(result)
    is_solid = result.arrays["molecule_id"] == 0
    return push_apart(result, is_fixed=is_solid)


def _with_regions(atoms: Atoms) -> Atoms:
    result = atoms.copy()
    if "region" not in result.arrays:
        result.arrays["region"] = np.full(len(result), Region.ELECTROLYTE)
    return result


def _window(atoms: Atoms, place: str) -> tuple[float, float]:
    """Heights between which the centre of a fragment goes."""
    region = atoms.arrays["region"]
    z = atoms.positions[:, 2]
    is_solid = (region == Region.ELECTRODE) | (region == Region.SEI)
    if place == "bulk":
        low, high = z[~is_solid].min(), z[~is_solid].max()
        return low + 0.25 * (high - low), high - 0.25 * (high - low)
    if not is_solid.any():
        raise ValueError(f"there is no solid for a fragment in the {place}")
    # With two electrodes the lower one counts.
    middle = z[~is_solid].mean() if (~is_solid).any() else np.inf
    surface = z[is_solid & (z < middle)].max()
    if place == "interface":
        return surface + 1.5, surface + INTERFACE_DEPTH
    bottom = z[is_solid].min()
    return 0.5 * (bottom + surface), surface


def _n_products(atoms: Atoms) -> int:
    is_product = atoms.arrays["region"] == Region.PRODUCT
    return len(np.unique(atoms.arrays["molecule_id"][is_product]))


def _gives_way(atoms: Atoms, place: str) -> np.ndarray:  # [n_atoms]
    """Which atoms may be taken out: those of neutral solvent molecules, and in the substrate those of the solid."""
    ids = atoms.arrays["molecule_id"]
    charges = np.bincount(ids, atoms.get_initial_charges())
    is_liquid = (ids > 0) & (atoms.arrays["region"] == Region.ELECTROLYTE)
    is_solvent = is_liquid & (np.abs(charges[ids]) < 0.5)
    return is_solvent | (ids == 0) if place == "substrate" else is_solvent


def _roomiest(
    atoms: Atoms,
    gives_way: np.ndarray,
    fragment: Atoms,
    low: float,
    high: float,
    generator: np.random.Generator,
    trials: int,
) -> Atoms:
    """Return the placement with most room and the fewest touched atoms, all of which give way."""
    best, best_score = None, -np.inf
    for _ in range(trials):
        trial = fragment.copy()
        trial.positions = fragment.positions @ random_rotation(generator).T
        u, v = generator.random(2)
        centre = u * atoms.cell[0] + v * atoms.cell[1]
        centre[2] = generator.uniform(low, high)
        trial.positions += centre
        distances = _distances(atoms, trial)
        is_near = distances < CLEARANCE
        score = min(distances.min(), CLEARANCE + 1.0) - 0.05 * is_near.sum()
        if score > best_score and not (is_near & ~gives_way).any():
            best, best_score = trial, score
    if best is None:
        raise ValueError(
            f"no place for {fragment.info['name']} in {trials} trials that touches no ion, nothing inserted before "
            "and, outside the substrate, nothing of the solid: insert fewer, or enlarge the cell"
        )
    return best


def _solid_parts(atoms: Atoms) -> np.ndarray:  # [n_atoms]
    """Which crystal an atom belongs to, as its region says; -1 outside the solid."""
    return np.where(atoms.arrays["molecule_id"] == 0, atoms.arrays["region"], -1)


def _make_room(atoms: Atoms, placed: Atoms, ions: SolidIons) -> Atoms:
    """Take out what the fragment touches: whole molecules; of the solid single atoms or, of a salt, neutral sets."""
    distances = _distances(atoms, placed)
    is_near = distances < CLEARANCE
    molecule_ids = atoms.arrays["molecule_id"]
    touched = set(molecule_ids[is_near & (molecule_ids > 0)])
    goes = np.isin(molecule_ids, list(touched)) | (is_near & (molecule_ids == 0))
    goes = ions.neutral(goes, distances)
    names = [
        name for k, name in enumerate(atoms.info.get("molecules", []), start=1) if k not in touched
    ]
    result = atoms[~goes]
    _renumber(result)
    result.info["molecules"] = names
    return result


def _append(atoms: Atoms, placed: Atoms) -> Atoms:
    addition = placed.copy()
    new_id = int(atoms.arrays["molecule_id"].max(initial=0)) + 1
    addition.arrays["molecule_id"] = np.full(len(placed), new_id)
    addition.arrays["region"] = np.full(len(placed), Region.PRODUCT)
    names = [*atoms.info.get("molecules", []), placed.info["name"]]
    result = atoms + addition
    result.info = {**atoms.info, "molecules": names}
    return result


def _count_anew(atoms: Atoms) -> None:
    """Replace in `info` what described the electrolyte before some of it gave way."""
    for name in ("density", "molarity", "composition"):
        atoms.info.pop(name, None)
    names = atoms.info["molecules"]
    if len(names) == atoms.arrays["molecule_id"].max():  # a cell from a file does not name its own
        atoms.info["composition"] = list_counts(dict(Counter(names).most_common()))


def _renumber(atoms: Atoms) -> None:
    """Close gaps in the molecule numbers; 0 stays the solid."""
    ids = atoms.arrays["molecule_id"]
    known = np.unique(ids[ids > 0])
    atoms.arrays["molecule_id"] = np.where(ids > 0, np.searchsorted(known, ids) + 1, 0)


def _distances(atoms: Atoms, placed: Atoms) -> np.ndarray:
    """Smallest distance of every atom to the placed molecule, nearest images."""
    vectors = atoms.positions[:, None, :] - placed.positions[None, :, :]  # [n_atoms, n_placed, 3]
    inverse = np.linalg.inv(atoms.cell.array)
    vectors -= (np.round(vectors @ inverse) * atoms.pbc) @ atoms.cell.array
    return np.linalg.norm(vectors, axis=2).min(axis=1)
