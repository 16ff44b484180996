"""Which molecule every atom belongs to, frame after frame, and what became of the molecules that changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qnep.analysis.bonds import BondChange, is_member
from qnep.analysis.known_molecules import KnownMolecule, known_by_label
from qnep.analysis.molecular_graph import (
    MoleculeGraph,
    atom_colors,
    components,
    graph_keys,
)

_METAL_NAME = "{} metal"


@dataclass(frozen=True)
class Species:
    """One kind of molecule, by its graph.

    Parameters
    ----------
    label : canonical SMILES skeleton.
    formula : in Hill's order.
    graph : of the first such molecule that was met.
    colors : (n_atoms,) of the atoms of ``graph``.
    known : its entry among the known molecules, if there is one.
    metal : symbol of the element for an atom that is part of a metal.
    """

    label: str
    formula: str
    graph: MoleculeGraph
    colors: np.ndarray
    known: KnownMolecule | None = None
    metal: str | None = None

    @property
    def name(self) -> str:
        """What to call it in tables and pictures."""
        if self.metal:
            return _METAL_NAME.format(self.metal)
        return self.known.name if self.known else self.formula

    @property
    def role(self) -> str:
        """ "solvent", "anion", "cation", "gas", "organic", "inorganic" or "metal"."""
        if self.metal:
            return "metal"
        if self.known:
            return self.known.role
        numbers = set(self.graph.numbers.tolist())
        return "organic" if {1, 6} <= numbers else "inorganic"


class SpeciesRegistry:
    """All species met so far; a species keeps its index."""

    def __init__(self) -> None:
        self.species: list[Species] = []
        self._by_key: dict[int, int] = {}
        self._by_label: dict[str, int] = {}

    def index(self, key: int, graph: MoleculeGraph, colors: np.ndarray) -> int:
        """Return the index of a species, which is entered if its graph is new."""
        label = graph.label()
        if label not in self._by_label:
            known = known_by_label().get(label)
            self._by_label[label] = len(self.species)
            self.species.append(Species(label, graph.formula, graph, colors, known))
        self._by_key[key] = self._by_label[label]
        return self._by_key[key]

    def known_key(self, key: int) -> int | None:
        """Return the index of a graph key met before."""
        return self._by_key.get(key)

    def metal_index(self, number: int) -> int:
        """Return the index of an atom in a metal."""
        symbol = chemical_symbols[number]
        label = f"[{symbol}] metal"
        if label not in self._by_label:
            self._by_label[label] = len(self.species)
            graph = MoleculeGraph(np.array([number]), np.empty((0, 2), dtype=np.int64))
            colors = np.zeros(1, dtype=np.uint64)
            self.species.append(Species(label, symbol, graph, colors, metal=symbol))
        return self._by_label[label]


class Reaction(NamedTuple):
    """Molecules that turned into others in one frame.

    Parameters
    ----------
    frame, time : first frame with the products; its time, fs (or frame number).
    reactants, products : indices of species, sorted, with repeats.
    atoms : lowest atom index of every reactant molecule.
    formed, broken : bonds as pairs of atoms.
    flows : (reactant species, product species, atoms handed over).
    """

    frame: int
    time: float
    reactants: tuple[int, ...]
    products: tuple[int, ...]
    atoms: tuple[int, ...]
    formed: tuple[tuple[int, int], ...]
    broken: tuple[tuple[int, int], ...]
    flows: tuple[tuple[int, int, int], ...]


class BrokenBond(NamedTuple):
    """A bond that broke.

    Parameters
    ----------
    time : fs (or frame number).
    atoms : the two atoms.
    parent : species of the molecule that held the bond just before.
    parent_colors : colours of the two atoms in it, sorted: which bond it was.
    origin : species of the molecule of the first frame that held the bond; -1 for a newer bond.
    origin_colors : colours in that molecule.
    """

    time: float
    atoms: tuple[int, int]
    parent: int
    parent_colors: tuple[int, int]
    origin: int
    origin_colors: tuple[int, int]


class MoleculeTracker:
    """Keeps the molecule of every atom up to date with the bonds.

    Parameters
    ----------
    numbers : (n_atoms,) atomic numbers.

    Attributes
    ----------
    root : (n_atoms,) lowest atom index of the molecule of every atom.
    species : (n_atoms,) index of the species of that molecule.
    colors : (n_atoms,) place of the atom in it.
    """

    def __init__(self, numbers: np.ndarray):
        self.numbers = numbers
        self.registry = SpeciesRegistry()
        n = len(numbers)
        self.root = np.arange(n)
        self.species = np.full(n, -1)
        self.colors = np.zeros(n, dtype=np.uint64)
        self._origin: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @property
    def roots(self) -> np.ndarray:
        """The lowest atom of every molecule."""
        return np.flatnonzero(self.root == np.arange(len(self.root)))

    def start(self, bonds: np.ndarray) -> None:
        """Take the bonds of the first frame."""
        i, j = np.divmod(bonds, len(self.numbers))
        self.root = components(len(self.numbers), i, j)
        self._label(np.arange(len(self.numbers)), i, j)
        self._origin = (bonds, self.species.copy(), self.colors.copy())

    def update(
        self, change: BondChange, frame: int, time: float
    ) -> tuple[list[Reaction], list[BrokenBond]]:
        """Take the bonds of the next frame; return what happened."""
        if len(change.formed) == 0 and len(change.broken) == 0:
            return [], []
        n = len(self.numbers)
        before = (self.root, self.species.copy())
        broken = list(self._broken_bonds(change.broken, time))
        i, j = np.divmod(change.bonds, n)
        self.root = components(n, i, j)
        endpoints = np.concatenate(np.divmod(np.concatenate((change.formed, change.broken)), n))
        is_touched = np.zeros(n, dtype=bool)
        is_touched[self.root[endpoints]] = True
        bond_touched = is_touched[self.root[i]]
        self._label(np.flatnonzero(is_touched[self.root]), i[bond_touched], j[bond_touched])
        return list(self._reactions(before, change, endpoints, frame, time)), broken

    def _label(self, atoms: np.ndarray, i: np.ndarray, j: np.ndarray) -> None:
        """Find species and colours of whole molecules, given by their atoms and bonds."""
        place = np.empty(len(self.numbers), dtype=np.int64)
        place[atoms] = np.arange(len(atoms))
        colors = atom_colors(self.numbers[atoms], place[i], place[j])
        self.colors[atoms] = colors
        roots, keys = graph_keys(colors, self.root[atoms])
        kinds, example, kind = np.unique(keys, return_index=True, return_inverse=True)
        index = np.empty(len(kinds), dtype=np.int64)
        for k, key in enumerate(kinds.tolist()):
            known = self.registry.known_key(key)
            index[k] = self._enter(key, roots[example[k]], atoms, i, j) if known is None else known
        species_of_root = np.empty(len(self.numbers), dtype=np.int64)
        species_of_root[roots] = index[kind]
        self.species[atoms] = species_of_root[self.root[atoms]]

    def _enter(self, key: int, root: int, atoms: np.ndarray, i: np.ndarray, j: np.ndarray) -> int:
        """Enter the species of one molecule and return its index."""
        members = atoms[self.root[atoms] == root]
        in_it = self.root[i] == root
        bonds = np.column_stack(
            (np.searchsorted(members, i[in_it]), np.searchsorted(members, j[in_it]))
        )
        graph = MoleculeGraph(self.numbers[members], bonds)
        return self.registry.index(key, graph, self.colors[members])

    def _broken_bonds(self, keys: np.ndarray, time: float) -> Iterator[BrokenBond]:
        assert self._origin is not None
        bonds, species, colors = self._origin
        first, second = np.divmod(keys, len(self.numbers))
        was_there = is_member(keys, bonds)
        for i, j, is_original in zip(first.tolist(), second.tolist(), was_there.tolist()):
            yield BrokenBond(
                time,
                (i, j),
                int(self.species[i]),
                _sorted_pair(self.colors, i, j),
                int(species[i]) if is_original else -1,
                _sorted_pair(colors, i, j),
            )

    def _reactions(
        self,
        before: tuple[np.ndarray, np.ndarray],
        change: BondChange,
        endpoints: np.ndarray,
        frame: int,
        time: float,
    ) -> Iterator[Reaction]:
        """Yield the reactions: the smallest groups of molecules that share atoms before and after."""
        old_root, old_species = before
        n = len(self.numbers)
        touched = np.zeros(n, dtype=bool)
        touched[old_root[endpoints]] = True
        atoms = np.flatnonzero(touched[old_root])
        links, n_atoms = np.unique(old_root[atoms] * n + self.root[atoms], return_counts=True)
        old, new = np.divmod(links, n)
        group_of_link = _groups(old, new)
        group_of_root = np.empty(n, dtype=np.int64)
        group_of_root[old] = group_of_link
        order = np.argsort(group_of_link, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(group_of_link[order])) + 1)
        formed = _bonds_by_group(change.formed, group_of_root[old_root[change.formed // n]], n)
        broken = _bonds_by_group(change.broken, group_of_root[old_root[change.broken // n]], n)
        for group in groups:
            name = int(group_of_link[group[0]])
            old_ones, new_ones = np.unique(old[group]), np.unique(new[group])
            yield Reaction(
                frame,
                time,
                tuple(sorted(old_species[old_ones].tolist())),
                tuple(sorted(self.species[new_ones].tolist())),
                tuple(old_ones.tolist()),
                formed.get(name, ()),
                broken.get(name, ()),
                tuple(
                    zip(
                        old_species[old[group]].tolist(),
                        self.species[new[group]].tolist(),
                        n_atoms[group].tolist(),
                    )
                ),
            )


def _groups(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return the group of every link (old molecule, new molecule): links that share an end are one group."""
    old_ones, first = np.unique(old, return_inverse=True)
    new_ones, second = np.unique(new, return_inverse=True)
    n = len(old_ones) + len(new_ones)
    graph = coo_array((np.ones(len(old)), (first, len(old_ones) + second)), shape=(n, n))
    return connected_components(graph, directed=False)[1][first]


def _sorted_pair(colors: np.ndarray, i: int, j: int) -> tuple[int, int]:
    a, b = int(colors[i]), int(colors[j])
    return (a, b) if a < b else (b, a)


def _bonds_by_group(keys: np.ndarray, groups: np.ndarray, n_atoms: int) -> dict[int, tuple]:
    """Return {group: ((i, j), ...)}."""
    found: dict[int, tuple] = {}
    for key, group in zip(keys.tolist(), groups.tolist()):
        found[group] = (*found.get(group, ()), divmod(key, n_atoms))
    return found
