"""Names and formal charges of the molecules of sodium and lithium interface chemistry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from qnep.analysis.molecular_graph import graph_of_smiles


@dataclass(frozen=True)
class KnownMolecule:
    """What a chemist calls a molecule.

    Parameters
    ----------
    name : with its charge, as PF₆⁻.
    smiles : with bond orders and charges.
    charge : formal, e.
    role : "solvent", "anion", "cation", "gas", "organic" or "inorganic".
    """

    name: str
    smiles: str
    charge: int
    role: str


KNOWN_MOLECULES = (
    KnownMolecule("EC", "O=C1OCCO1", 0, "solvent"),
    KnownMolecule("PC", "CC1COC(=O)O1", 0, "solvent"),
    KnownMolecule("VC", "O=C1OC=CO1", 0, "solvent"),
    KnownMolecule("FEC", "O=C1OCC(F)O1", 0, "solvent"),
    KnownMolecule("DMC", "COC(=O)OC", 0, "solvent"),
    KnownMolecule("EMC", "CCOC(=O)OC", 0, "solvent"),
    KnownMolecule("DEC", "CCOC(=O)OCC", 0, "solvent"),
    KnownMolecule("DME", "COCCOC", 0, "solvent"),
    KnownMolecule("diglyme", "COCCOCCOC", 0, "solvent"),
    KnownMolecule("triglyme", "COCCOCCOCCOC", 0, "solvent"),
    KnownMolecule("DOL", "C1OCCO1", 0, "solvent"),
    KnownMolecule("THF", "C1CCOC1", 0, "solvent"),
    KnownMolecule("acetonitrile", "CC#N", 0, "solvent"),
    KnownMolecule("PF₆⁻", "F[P-](F)(F)(F)(F)F", -1, "anion"),
    KnownMolecule("FSI⁻", "O=S(=O)(F)[N-]S(=O)(=O)F", -1, "anion"),
    KnownMolecule("TFSI⁻", "O=S(=O)(C(F)(F)F)[N-]S(=O)(=O)C(F)(F)F", -1, "anion"),
    KnownMolecule("ClO₄⁻", "[O-]Cl(=O)(=O)=O", -1, "anion"),
    KnownMolecule("BF₄⁻", "F[B-](F)(F)F", -1, "anion"),
    KnownMolecule("PO₂F₂⁻", "O=P([O-])(F)F", -1, "anion"),
    KnownMolecule("Na⁺", "[Na+]", 1, "cation"),
    KnownMolecule("Li⁺", "[Li+]", 1, "cation"),
    KnownMolecule("H₂", "[H][H]", 0, "gas"),
    KnownMolecule("CO", "[C-]#[O+]", 0, "gas"),
    KnownMolecule("CO₂", "O=C=O", 0, "gas"),
    KnownMolecule("CH₄", "C", 0, "gas"),
    KnownMolecule("C₂H₂", "C#C", 0, "gas"),
    KnownMolecule("C₂H₄", "C=C", 0, "gas"),
    KnownMolecule("C₂H₆", "CC", 0, "gas"),
    KnownMolecule("C₃H₆", "CC=C", 0, "gas"),
    KnownMolecule("C₃H₈", "CCC", 0, "gas"),
    KnownMolecule("dimethyl ether", "COC", 0, "gas"),
    KnownMolecule("O₂", "O=O", 0, "gas"),
    KnownMolecule("N₂", "N#N", 0, "gas"),
    KnownMolecule("PF₃", "FP(F)F", 0, "gas"),
    KnownMolecule("PF₅", "FP(F)(F)(F)F", 0, "gas"),
    KnownMolecule("POF₃", "O=P(F)(F)F", 0, "gas"),
    KnownMolecule("BF₃", "FB(F)F", 0, "gas"),
    KnownMolecule("HF", "F", 0, "gas"),
    KnownMolecule("H₂O", "O", 0, "inorganic"),
    KnownMolecule("F⁻", "[F-]", -1, "inorganic"),
    KnownMolecule("Cl⁻", "[Cl-]", -1, "inorganic"),
    KnownMolecule("O²⁻", "[O-2]", -2, "inorganic"),
    KnownMolecule("S²⁻", "[S-2]", -2, "inorganic"),
    KnownMolecule("N³⁻", "[N-3]", -3, "inorganic"),
    KnownMolecule("OH⁻", "[OH-]", -1, "inorganic"),
    KnownMolecule("H⁻", "[H-]", -1, "inorganic"),
    KnownMolecule("CO₃²⁻", "O=C([O-])[O-]", -2, "inorganic"),
    KnownMolecule("PO₄³⁻", "O=P([O-])([O-])[O-]", -3, "inorganic"),
    KnownMolecule("PS₄³⁻", "S=P([S-])([S-])[S-]", -3, "inorganic"),
    KnownMolecule("CH₃", "[CH3]", 0, "organic"),
    KnownMolecule("C₂H₅", "C[CH2]", 0, "organic"),
    KnownMolecule("CH₃O⁻", "C[O-]", -1, "organic"),
    KnownMolecule("HCOO⁻", "O=C[O-]", -1, "organic"),
    KnownMolecule("C₂O₄²⁻", "[O-]C(=O)C(=O)[O-]", -2, "organic"),
    KnownMolecule("methyl carbonate⁻", "COC(=O)[O-]", -1, "organic"),
    KnownMolecule("ethyl carbonate⁻", "CCOC(=O)[O-]", -1, "organic"),
    KnownMolecule("ethylene glycolate²⁻", "[O-]CC[O-]", -2, "organic"),
    KnownMolecule("2-methoxyethoxide⁻", "COCC[O-]", -1, "organic"),
    KnownMolecule("EDC²⁻", "[O-]C(=O)OCCOC(=O)[O-]", -2, "organic"),
    KnownMolecule("BDC²⁻", "[O-]C(=O)OCCCCOC(=O)[O-]", -2, "organic"),
    KnownMolecule("ring-opened EC", "O=[C]OCC[O]", 0, "organic"),
    KnownMolecule("ring-opened EC (C–O of CH₂)", "[O]C(=O)OC[CH2]", 0, "organic"),
)
"""Charges are those of the common ion; a radical of the same skeleton carries the same name."""


@lru_cache(maxsize=1)
def known_by_label() -> dict[str, KnownMolecule]:
    """Return the known molecules by their canonical label."""
    return {graph_of_smiles(known.smiles).label(): known for known in KNOWN_MOLECULES}


@lru_cache(maxsize=1)
def known_by_name() -> dict[str, KnownMolecule]:
    """Return the known molecules by name."""
    return {known.name: known for known in KNOWN_MOLECULES}
