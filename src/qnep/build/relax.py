"""A push apart before any real potential: close contacts open, molecules stay whole."""

from __future__ import annotations

import numpy as np
from ase import Atoms

HYDROGEN_CONTACT = 1.5  # Å, target for pairs with H; checked against SAFE_HYDROGEN
HEAVY_CONTACT = 2.1  # Å, target for other pairs; checked against SAFE_HEAVY
SAFE_HYDROGEN = 1.0
SAFE_HEAVY = 1.5
BOND_STIFFNESS = 4.0  # of the network that keeps a molecule's shape, in units of the repulsion
MAX_STEP = 0.15  # Å
LONGEST_BOND = 1.75  # Å, of the pairs that are bonds
BOND_TOLERANCE = 0.15  # Å


class ContactError(ValueError):
    """Atoms stay too close to each other, as in a cell that is too dense."""


def push_apart(atoms: Atoms, is_fixed: np.ndarray | None = None, max_steps: int = 400) -> Atoms:
    """Return the structure with no two atoms of different molecules closer than 1.0 Å (with H) or 1.5 Å.

    Minimises ``sum k (d - r)^2`` over pairs of different molecules closer than d (1.5 Å with H, 2.1 Å without) plus
    springs between all atoms of a molecule up to four bonds apart, with FIRE. No chemistry: it only has to be a start
    that any potential survives.

    Parameters
    ----------
    atoms : with the array ``molecule_id``; atoms of one molecule are never pushed apart. 0 marks atoms of a solid,
        which count as one body each.
    is_fixed : (n_atoms,) bool array; atoms that stay where they are.
    max_steps : of FIRE; 50 are usual.

    Raises
    ------
    ContactError : contacts are left at the end, or bonds are crushed.

    References
    ----------
    Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), doi:10.1103/PhysRevLett.97.170201 (FIRE)
    """
    atoms = atoms.copy()
    network = _Network(atoms)
    is_free = np.ones(len(atoms), bool) if is_fixed is None else ~np.asarray(is_fixed)
    velocity = np.zeros((len(atoms), 3))
    timestep, mixing, n_downhill = 0.1, 0.1, 0
    for _ in range(max_steps):
        forces, is_open = network.forces(atoms)
        if is_open:
            return atoms
        forces[~is_free] = 0.0
        if (forces * velocity).sum() > 0:
            n_downhill += 1
            scale = float(np.linalg.norm(velocity)) / max(float(np.linalg.norm(forces)), 1e-12)
            velocity = (1 - mixing) * velocity + mixing * scale * forces
            if n_downhill > 5:
                timestep, mixing = min(1.1 * timestep, 0.4), 0.99 * mixing
        else:
            velocity[:] = 0.0
            timestep, mixing, n_downhill = 0.5 * timestep, 0.1, 0
        velocity += timestep * forces
        step = timestep * velocity
        lengths = np.linalg.norm(step, axis=1, keepdims=True)
        atoms.positions += step * np.minimum(1.0, MAX_STEP / np.maximum(lengths, 1e-12))
    check_contacts(atoms)
    network.check_whole(atoms)
    return atoms


def check_contacts(atoms: Atoms) -> None:
    """Check that no pair of different molecules is closer than 1.0 Å (with H) or 1.5 Å.

    Raises
    ------
    ContactError : names the closest pair.
    """
    first, second, distances = _contacts(atoms, SAFE_HEAVY)
    has_hydrogen = _has_hydrogen(atoms, first, second)
    is_bad = distances < np.where(has_hydrogen, SAFE_HYDROGEN, SAFE_HEAVY)
    if is_bad.any():
        k = np.argmin(np.where(is_bad, distances, np.inf))
        symbols = atoms.get_chemical_symbols()
        raise ContactError(
            f"{is_bad.sum()} contacts are too close, the shortest {distances[k]:.2f} Å between {symbols[first[k]]} "
            f"{first[k]} and {symbols[second[k]]} {second[k]}: lower the density or widen the gaps"
        )


class _Network:
    """Repulsion between molecules, springs within them."""

    def __init__(self, atoms: Atoms) -> None:
        self.first, self.second = _intramolecular_pairs(atoms)
        vectors = atoms.positions[self.second] - atoms.positions[self.first]
        self.lengths = np.linalg.norm(vectors, axis=1)

    def check_whole(self, atoms: Atoms) -> None:
        """Check that bonds kept their lengths to 0.15 Å; raises ContactError."""
        is_bond = self.lengths < LONGEST_BOND
        bonds = atoms.positions[self.second] - atoms.positions[self.first]
        change = np.abs(np.linalg.norm(bonds, axis=1) - self.lengths)[is_bond]
        if change.max(initial=0.0) > BOND_TOLERANCE:
            raise ContactError(
                f"molecules are crushed: a bond changed by {change.max():.2f} Å. Lower the density"
            )

    def forces(self, atoms: Atoms) -> tuple[np.ndarray, bool]:
        """Return forces and whether all contacts are open."""
        first, second, vectors = _contact_vectors(atoms, HEAVY_CONTACT)
        distances = np.maximum(np.linalg.norm(vectors, axis=1), 1e-6)
        has_hydrogen = _has_hydrogen(atoms, first, second)
        overlap = np.where(has_hydrogen, HYDROGEN_CONTACT, HEAVY_CONTACT) - distances
        # A tenth of an Å of penetration into the target distance is left alone.
        is_open = bool((overlap < 0.1).all())
        pull = 2 * np.maximum(overlap, 0.0) / distances
        total = np.zeros((len(atoms), 3))
        _scatter(total, first, second, pull[:, None] * vectors)
        bonds = atoms.positions[self.second] - atoms.positions[self.first]
        lengths = np.maximum(np.linalg.norm(bonds, axis=1), 1e-6)
        stretch = 2 * BOND_STIFFNESS * (self.lengths - lengths) / lengths
        _scatter(total, self.first, self.second, stretch[:, None] * bonds)
        is_whole = bool((np.abs(self.lengths - lengths) < 0.05).all())
        return total, is_open and is_whole


def _scatter(total: np.ndarray, first: np.ndarray, second: np.ndarray, push: np.ndarray) -> None:
    """Add a push along r_second - r_first to the second atoms, and its opposite to the first."""
    for axis in range(3):
        total[:, axis] += np.bincount(second, push[:, axis], len(total))
        total[:, axis] -= np.bincount(first, push[:, axis], len(total))


def _contact_vectors(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of different bodies closer than a cutoff, each once, with r_second - r_first."""
    from vesin import NeighborList

    neighbors = NeighborList(cutoff=cutoff, full_list=False)
    first, second, vectors = neighbors.compute(
        points=atoms.positions,
        box=atoms.cell.array,
        periodic=atoms.pbc,
        quantities="ijD",
        copy=True,
    )
    molecule_ids = atoms.arrays["molecule_id"]
    is_contact = (molecule_ids[first] != molecule_ids[second]) | (first == second)
    return first[is_contact], second[is_contact], vectors[is_contact]


def _contacts(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second, vectors = _contact_vectors(atoms, cutoff)
    return first, second, np.linalg.norm(vectors, axis=1)


def _has_hydrogen(atoms: Atoms, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (atoms.numbers[first] == 1) | (atoms.numbers[second] == 1)


def _intramolecular_pairs(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """All pairs within molecules; atoms with molecule_id 0 have none."""
    molecule_ids = atoms.arrays["molecule_id"]
    order = np.argsort(molecule_ids, kind="stable")
    sizes = np.bincount(molecule_ids)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    first, second = [], []
    for size in np.unique(sizes[1:][sizes[1:] > 1]) if len(sizes) > 1 else ():
        i, j = np.triu_indices(size, 1)
        begin = starts[1:][sizes[1:] == size][:, None]
        first.append(order[(begin + i).ravel()])
        second.append(order[(begin + j).ravel()])
    if not first:
        return np.empty(0, int), np.empty(0, int)
    return np.concatenate(first), np.concatenate(second)
