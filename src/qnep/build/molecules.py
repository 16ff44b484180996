"""Molecules and ions: by name or SMILES, embedded by RDKit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from qnep._optional import require

PF_BOND = 1.60  # Å, octahedral PF6-; crystal structures give 1.58-1.61

# Å, first bond; the force fields do not know the diatomics and give CO2 1.40 Å. Gas-phase values: CRC Handbook of
# Chemistry and Physics, "Bond lengths and angles in gas-phase molecules".
KNOWN_BONDS = {"CO": 1.128, "H2": 0.741, "CO2": 1.162}


@dataclass(frozen=True)
class Species:
    """A molecule or an ion that can be packed.

    Parameters
    ----------
    name : short, as on the command line.
    smiles : with charges; "" for PF6-, which the force fields of RDKit do not know.
    density : of the pure liquid, g/cm³; None for ions and gases. EC and VC: just above their melting points.
    """

    name: str
    smiles: str
    density: float | None = None


# Densities at 25 °C (EC 40 °C): Xu, Chem. Rev. 104, 4303 (2004), doi:10.1021/cr030203g, tables 1 and 2; FEC and VC from
# suppliers' data sheets.
SOLVENTS = {
    species.name: species
    for species in (
        Species("EC", "O=C1OCCO1", 1.321),
        Species("PC", "CC1COC(=O)O1", 1.200),
        Species("DMC", "COC(=O)OC", 1.063),
        Species("EMC", "CCOC(=O)OC", 1.006),
        Species("DEC", "CCOC(=O)OCC", 0.969),
        Species("DME", "COCCOC", 0.86),
        Species("G2", "COCCOCCOC", 0.944),
        Species("FEC", "O=C1OCC(F)O1", 1.485),
        Species("VC", "O=C1OC=CO1", 1.355),
    )
}

IONS = {
    species.name: species
    for species in (
        Species("Na+", "[Na+]"),
        Species("Li+", "[Li+]"),
        Species("K+", "[K+]"),
        Species("PF6-", ""),
        Species("FSI-", "O=S(=O)(F)[N-]S(=O)(=O)F"),
        Species("TFSI-", "O=S(=O)(C(F)(F)F)[N-]S(=O)(=O)C(F)(F)F"),
        Species("ClO4-", "[O-]Cl(=O)(=O)=O"),
        Species("CO3--", "[O-]C(=O)[O-]"),
        Species("F-", "[F-]"),
        Species("OH-", "[OH-]"),
        Species("O--", "[O-2]"),
        Species("H-", "[H-]"),
    )
}

# What the reduction of EC, DME and PF6- leaves behind.
FRAGMENTS = {
    species.name: species
    for species in (
        Species("C2H4", "C=C"),
        Species("C2H6", "CC"),
        Species("CH4", "C"),
        Species("CO", "[C-]#[O+]"),
        Species("CO2", "O=C=O"),
        Species("H2", "[H][H]"),
        Species("PF5", "FP(F)(F)(F)F"),
        Species("PF3", "FP(F)F"),
        Species("CH3ONa", "C[O-].[Na+]"),
        Species("NaOCH2CH2ONa", "[Na+].[O-]CC[O-].[Na+]"),
        Species("NaOCH2CH2OCO2Na", "[Na+].[O-]CCOC(=O)[O-].[Na+]"),
        Species("Na2CO3", "[Na+].[Na+].[O-]C(=O)[O-]"),
        Species("NaF", "[Na+].[F-]"),
    )
}

KNOWN = {**SOLVENTS, **IONS, **FRAGMENTS}


def find_species(name: str) -> Species:
    """Return a species by its name, or one made of a SMILES.

    Raises
    ------
    ValueError : neither a known name nor a SMILES.
    """
    known = {key.lower(): species for key, species in KNOWN.items()}
    aliases = {"diglyme": "G2", "glyme": "DME", "dimethoxyethane": "DME"}
    wanted = aliases.get(name.lower(), name)
    if wanted.lower() in known:
        return known[wanted.lower()]
    if _parse_smiles(name) is None:
        raise ValueError(
            f"unknown molecule {name!r}: neither a SMILES nor one of {', '.join(KNOWN)}"
        )
    return Species(name, name)


def make_molecule(species: Species | str, seed: int = 1) -> Atoms:
    """Return one conformer, centred at the origin, with the formal charges as initial charges.

    Geometries are embedded by distance geometry and relaxed with MMFF94, or UFF where that has no parameters. Pieces
    of an ion pair are set side by side.

    Parameters
    ----------
    seed : of the embedding; other seeds give other conformers.

    Raises
    ------
    ValueError : unknown molecule, or one that cannot be embedded.
    MissingExtra : RDKit is not installed.
    """
    if isinstance(species, str):
        species = find_species(species)
    atoms = _octahedral_pf6() if species.name == "PF6-" else _embed(species, seed)
    if species.name in KNOWN_BONDS:
        atoms.positions *= KNOWN_BONDS[species.name] / atoms.get_distance(0, 1)
    atoms.positions -= atoms.get_center_of_mass()
    atoms.info["name"] = species.name
    return atoms


def _octahedral_pf6() -> Atoms:
    directions = np.vstack([np.eye(3), -np.eye(3)]) * PF_BOND
    atoms = Atoms("PF6", np.vstack([np.zeros((1, 3)), directions]))
    # The formal charges of SMILES would put all on P; a seventh of -1 on each atom tells ions apart as well.
    atoms.set_initial_charges(np.full(7, -1 / 7))
    return atoms


def _parse_smiles(smiles: str) -> object | None:
    chemistry = require("rdkit.Chem", "build")
    require("rdkit.RDLogger", "build").DisableLog("rdApp.*")
    return chemistry.MolFromSmiles(smiles) if smiles else None


def _embed(species: Species, seed: int) -> Atoms:
    chemistry = require("rdkit.Chem", "build")
    force_fields = require("rdkit.Chem.AllChem", "build")
    parsed = _parse_smiles(species.smiles)
    if parsed is None:
        raise ValueError(f"{species.smiles!r} is no SMILES")
    molecule = chemistry.AddHs(parsed)
    if force_fields.EmbedMolecule(molecule, randomSeed=seed) != 0:
        raise ValueError(f"RDKit finds no geometry for {species.smiles!r}")
    conformer = molecule.GetConformer()
    # An exactly linear molecule stops the force field: its angles have no gradient.
    kick = np.random.default_rng(seed).normal(scale=0.02, size=(molecule.GetNumAtoms(), 3))
    conformer.SetPositions(conformer.GetPositions() + kick)
    if force_fields.MMFFHasAllMoleculeParams(molecule):
        force_fields.MMFFOptimizeMolecule(molecule, maxIters=2000)
    elif force_fields.UFFHasAllMoleculeParams(molecule):
        force_fields.UFFOptimizeMolecule(molecule, maxIters=2000)
    elements = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    charges = [float(atom.GetFormalCharge()) for atom in molecule.GetAtoms()]
    atoms = Atoms(elements, conformer.GetPositions())
    atoms.set_initial_charges(charges)
    return atoms
