"""Graphs of molecules: keys for many at once, and the one canonical text of each kind.

A bond has no order here (a trajectory shows none), so a label is a SMILES skeleton with single bonds and
the hydrogens of every atom: ethylene carbonate is ``[O][C]1[O][CH2][CH2][O]1`` whatever its bond orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from qnep._optional import require

_ROUNDS = 8  # neighbourhoods up to this many bonds enter the key of a graph
_LONGEST_WALK = 8  # closed walks up to this length do, which tells ring sizes apart
LARGEST_SMILES = 150  # atoms; larger molecules and slabs are named by formula and key


def components(n_atoms: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return for every atom the lowest index among the atoms connected to it, [n_atoms]."""
    graph = coo_array((np.ones(len(i), dtype=np.int8), (i, j)), shape=(n_atoms, n_atoms))
    n_components, label = connected_components(graph, directed=False)
    root = np.empty(n_components, dtype=np.int64)
    root[label[::-1]] = np.arange(n_atoms)[::-1]  # the last to be written is the lowest
    return root[label]


def _mix(values: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers (the finalizer of SplitMix64, Steele et al., OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def atom_colors(numbers: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return a 64-bit colour of every atom that tells its place in its molecule, [n_atoms].

    Weisfeiler-Lehman refinement from the element and the numbers of closed walks through the atom.
    Atoms that a symmetry of the molecule exchanges have one colour, in whatever order atoms come.

    References
    ----------
    Shervashidze et al., J. Mach. Learn. Res. 12, 2539 (2011)
    """
    n = len(numbers)
    both = (np.concatenate((i, j)), np.concatenate((j, i)))
    adjacency = csr_array((np.ones(2 * len(i), dtype=np.uint64), both), shape=(n, n))
    colors = _mix(numbers.astype(np.uint64) + np.uint64(1))
    for walks in _closed_walks(adjacency, len(i)):
        colors = _mix(colors * np.uint64(3) + walks)
    for _ in range(_ROUNDS):
        colors = _mix(colors * np.uint64(3) + adjacency @ _mix(colors))
    return colors


def _closed_walks(adjacency: csr_array, n_bonds: int) -> list[np.ndarray]:
    """Return for lengths 3 to 8 the number of closed walks at each atom, [n_atoms] each.

    Only atoms of molecules with rings can have odd ones, and only those are looked at.
    """
    n = adjacency.shape[0]
    _, label = connected_components(adjacency, directed=False)
    n_atoms = np.bincount(label)
    bonds_at = np.bincount(label, weights=np.diff(adjacency.indptr)) / 2
    atoms = np.flatnonzero((bonds_at >= n_atoms)[label])
    if len(atoms) == 0:
        return [np.zeros(n, dtype=np.uint64)] * (_LONGEST_WALK - 2)
    first = adjacency[atoms][:, atoms]
    powers = [first, first @ first]
    while 2 * len(powers) < _LONGEST_WALK:
        powers.append(powers[-1] @ first)
    counts = []
    for length in range(3, _LONGEST_WALK + 1):
        a, b = powers[length // 2 - 1], powers[length - length // 2 - 1]
        walks = np.zeros(n, dtype=np.uint64)
        walks[atoms] = np.asarray(a.multiply(b).sum(axis=1), dtype=np.uint64).ravel()
        counts.append(walks)
    return counts


def graph_keys(colors: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the roots of the molecules and a 64-bit key of the graph of each.

    Parameters
    ----------
    colors, root : (n_atoms,) arrays of `atom_colors` and `components`.
    """
    roots, molecule = np.unique(root, return_inverse=True)
    membership = csr_array(
        (np.ones(len(root), dtype=np.uint64), (molecule, np.arange(len(root)))),
        shape=(len(roots), len(root)),
    )
    return roots, membership @ _mix(colors + np.uint64(7))


@dataclass(frozen=True)
class MoleculeGraph:
    """Atoms and bonds of one molecule.

    Parameters
    ----------
    numbers : (n_atoms,) atomic numbers.
    bonds : (n_bonds, 2) indices.
    """

    numbers: np.ndarray
    bonds: np.ndarray

    @property
    def formula(self) -> str:
        """Formula in Hill's order, as C3H4O3."""
        symbols, counts = np.unique([chemical_symbols[z] for z in self.numbers], return_counts=True)
        found = dict(zip(symbols.tolist(), counts.tolist()))
        first = ["C", "H"] if "C" in found else []
        order = [s for s in first if s in found] + sorted(s for s in found if s not in first)
        return "".join(s + (str(found[s]) if found[s] > 1 else "") for s in order)

    def to_rdkit(self, kept: np.ndarray | None = None) -> Any:
        """Return an RDKit molecule with single bonds.

        Parameters
        ----------
        kept : (n_atoms,) mask of the atoms to draw; the others become hydrogen counts of the atoms
            they are bonded to. All by default.
        """
        chem = require("rdkit.Chem", extra="analysis")
        kept = np.ones(len(self.numbers), dtype=bool) if kept is None else kept
        place = np.cumsum(kept) - 1
        is_hidden = ~kept[self.bonds]
        n_hidden = np.bincount(self.bonds[is_hidden[:, ::-1]], minlength=len(kept))
        molecule = chem.RWMol()
        for z, n in zip(self.numbers[kept].tolist(), n_hidden[kept].tolist()):
            atom = chem.Atom(z)
            atom.SetNoImplicit(True)
            atom.SetNumExplicitHs(n)
            molecule.AddAtom(atom)
        for a, b in place[self.bonds[~is_hidden.any(axis=1)]].tolist():
            molecule.AddBond(a, b, chem.BondType.SINGLE)
        molecule.UpdatePropertyCache(strict=False)
        return molecule

    def terminal_hydrogens(self) -> np.ndarray:
        """Return a mask [n_atoms] of the hydrogens with one bond, which leads to a heavy atom."""
        degree = np.bincount(self.bonds.ravel(), minlength=len(self.numbers))
        is_terminal = (self.numbers == 1) & (degree == 1)
        light = self.bonds[(self.numbers[self.bonds] == 1).all(axis=1)]
        is_terminal[light.ravel()] = False
        return is_terminal

    def label(self) -> str:
        """Return the canonical SMILES skeleton, which is the same for any order of the atoms.

        Molecules above `LARGEST_SMILES` atoms get formula and graph key instead.
        """
        if len(self.numbers) > LARGEST_SMILES:
            i, j = self.bonds.T
            colors = atom_colors(self.numbers, i, j)
            _, keys = graph_keys(colors, np.zeros(len(self.numbers), dtype=np.int64))
            return f"{self.formula}#{int(keys[0]):016x}"
        chem = require("rdkit.Chem", extra="analysis")
        molecule = self.to_rdkit(kept=~self.terminal_hydrogens())
        return chem.MolToSmiles(molecule, allHsExplicit=True)


def graph_of_smiles(smiles: str) -> MoleculeGraph:
    """Return the graph of a chemist's SMILES, hydrogens added.

    Raises
    ------
    ValueError : where RDKit cannot read the SMILES.
    """
    chem = require("rdkit.Chem", extra="analysis")
    molecule = chem.MolFromSmiles(smiles, sanitize=False)
    if molecule is None:
        raise ValueError(f"not a SMILES: {smiles!r}")
    molecule.UpdatePropertyCache(strict=False)
    molecule = chem.AddHs(molecule)
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
    return MoleculeGraph(
        np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()]),
        np.array(bonds, dtype=np.int64).reshape(-1, 2),
    )
