"""Trajectories written by a script: molecules on a lattice that react when they are told to."""

import numpy as np
from ase import Atoms
from rdkit import Chem
from rdkit.Chem import AllChem

from qnep.analysis import Frame

SPACING = 11.0  # Å between the molecules: nothing touches by accident
INTERVAL_FS = 10.0


def embed(smiles, seed=1):
    """Atoms of a molecule, centred, with RDKit's geometry."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(molecule, randomSeed=seed) == 0
    positions = molecule.GetConformer().GetPositions()
    return Atoms([a.GetSymbol() for a in molecule.GetAtoms()], positions - positions.mean(axis=0))


def pf6():
    """Octahedral PF6, P-F 1.60 Å."""
    axes = np.vstack((np.eye(3), -np.eye(3)))
    return Atoms("PF6", np.vstack((np.zeros(3), 1.60 * axes)))


class Stage:
    """Molecules at lattice sites, and moves of atoms scheduled by frame.

    Noise is Gaussian, `sigma` per coordinate, clipped at 2.5 sigma (as bonds are, unlike free atoms).
    """

    def __init__(self, sites_per_edge=3, n_frames=40, sigma=0.06, seed=0):
        self.n_frames, self.sigma, self.seed = n_frames, sigma, seed
        self.edge = sites_per_edge * SPACING
        self.sites_per_edge = sites_per_edge
        self.atoms = Atoms(cell=[self.edge] * 3, pbc=True)
        self.n_sites = 0
        self.moves = []

    def place(self, molecule):
        """Put a molecule at the next site; return its atom indices."""
        k, n = self.n_sites, self.sites_per_edge
        site = SPACING * (np.array([k // n**2, k // n % n, k % n]) + 0.1)
        self.n_sites += 1
        first = len(self.atoms)
        molecule = molecule.copy()
        molecule.positions += site
        self.atoms += molecule
        return np.arange(first, len(self.atoms))

    def move(self, atoms, displacement, frame, until=None):
        """Displace atoms from a frame on, at once (until another frame)."""
        self.moves.append((np.atleast_1d(atoms), np.asarray(displacement, float), frame, until))

    def frames(self):
        """Yield the frames, wrapped into the cell so that molecules cross its faces."""
        rng = np.random.default_rng(self.seed)
        cell = np.eye(3) * self.edge
        for k in range(self.n_frames):
            positions = self.atoms.positions.copy()
            for atoms, displacement, frame, until in self.moves:
                if k >= frame and (until is None or k < until):
                    positions[atoms] += displacement
            noise = np.clip(rng.normal(size=positions.shape), -2.5, 2.5) * self.sigma
            yield Frame(
                positions=(positions + noise) % self.edge,
                numbers=self.atoms.numbers,
                cell=cell,
                pbc=np.ones(3, dtype=bool),
                index=k,
                step=k,
                time_fs=k * INTERVAL_FS,
                charges=self.atoms.get_initial_charges(),
            )
