"""When two atoms count as bonded: pairs of distances, and which pairs are ionic or metallic.

A pair that comes nearer than the *form* distance is bonded and stays so until it is farther apart
than the *break* distance. Form distances lie 10 to 25 % above the bond length (CRC Handbook of
Chemistry and Physics, "Bond lengths and angles in gas-phase molecules"), beyond thermal
vibration and below the nearest contacts of unbonded neighbours; break distances 20 to 25 % above form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import combinations_with_replacement

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

METALS = frozenset(
    ["Li", "Na", "K", "Rb", "Cs", "Be", "Mg", "Ca", "Sr", "Ba", "Zn", "Al", "Cu", "Ag", "Au", "Ni"]
    + ["Co", "Fe", "Mn", "Ti", "Zr", "W", "Mo", "Pt", "Pd"]
)


class Kind(Enum):
    """What holds a pair of elements together."""

    COVALENT = "covalent"
    CONTACT = "contact"
    METALLIC = "metallic"


def kind_of_pair(first: str, second: str) -> Kind:
    """Return how two elements bind: metal-metal, metal-nonmetal (ionic contact), or covalent."""
    n_metals = (first in METALS) + (second in METALS)
    return (Kind.COVALENT, Kind.CONTACT, Kind.METALLIC)[n_metals]


# (form, break), Å. Bond lengths that they enclose: H-H 0.74, C-H 1.09, N-H 1.01, O-H 0.96 (shared
# proton 1.20), F-H 0.92 (FHF- 1.15), P-H 1.42, S-H 1.34, C-C 1.54, C-N 1.47, C-O 1.43, C-F 1.38,
# C-P 1.85, C-S 1.82, O-O 1.48, O-P 1.63, F-P 1.60 (PF6-), O-S 1.57, F-S 1.56, P-P 2.21, S-S 2.05,
# Cl-O 1.44 (ClO4-), C-Cl 1.77, Cl-H 1.27, Cl-Cl 1.99, Cl-F 1.63, Cl-N 1.76, Cl-P 2.04, Cl-S 2.01, B-F 1.40 (BF4-),
# B-O 1.47, B-C 1.58, B-H 1.19 (bridge 1.33), B-N 1.58, B-B 1.77, B-Cl 1.74, B-P 1.96, B-S 1.81 Å.
# Crystals: NaF 2.32, LiF 2.01, Na2O 2.41, Li2O 2.00, Na2S 2.83, Li2S 2.47, Na3N 2.37, Li3N 2.13, NaCl 2.82,
# LiCl 2.57, Na-B 3.07 (NaBH4), Li-B 2.50 Å (LiBH4);
# bcc Na 3.72, bcc Li 3.04 Å (second shells 4.29 and 3.51); the first shell of the liquids ends at 5.0 and 4.3 Å.
DEFAULT_DISTANCES: dict[tuple[str, str], tuple[float, float]] = {
    ("H", "H"): (0.95, 1.20),
    ("C", "H"): (1.35, 1.65),
    ("H", "N"): (1.25, 1.55),
    ("H", "O"): (1.22, 1.50),
    ("F", "H"): (1.20, 1.50),
    ("H", "P"): (1.65, 2.00),
    ("H", "S"): (1.60, 1.95),
    ("C", "C"): (1.80, 2.15),
    ("C", "N"): (1.70, 2.05),
    ("C", "O"): (1.70, 2.05),
    ("C", "F"): (1.65, 2.00),
    ("C", "P"): (2.15, 2.55),
    ("C", "S"): (2.10, 2.50),
    ("N", "N"): (1.65, 2.00),
    ("N", "O"): (1.65, 2.00),
    ("F", "N"): (1.65, 2.00),
    ("N", "P"): (1.95, 2.35),
    ("N", "S"): (1.90, 2.30),
    ("O", "O"): (1.70, 2.00),
    ("F", "O"): (1.65, 1.95),
    ("O", "P"): (1.95, 2.35),
    ("O", "S"): (1.85, 2.20),
    ("F", "F"): (1.65, 1.95),
    ("F", "P"): (1.95, 2.35),
    ("F", "S"): (1.90, 2.25),
    ("P", "P"): (2.50, 2.90),
    ("P", "S"): (2.40, 2.80),
    ("S", "S"): (2.35, 2.75),
    ("Cl", "O"): (1.80, 2.20),
    ("C", "Cl"): (2.10, 2.50),
    ("Cl", "H"): (1.60, 1.95),
    ("Cl", "Cl"): (2.35, 2.80),
    ("Cl", "F"): (1.90, 2.30),
    ("Cl", "N"): (2.05, 2.45),
    ("Cl", "P"): (2.40, 2.80),
    ("Cl", "S"): (2.35, 2.80),
    ("B", "F"): (1.70, 2.05),
    ("B", "O"): (1.75, 2.10),
    ("B", "C"): (1.90, 2.30),
    ("B", "H"): (1.50, 1.80),
    ("B", "N"): (1.90, 2.30),
    ("B", "B"): (2.10, 2.50),
    ("B", "Cl"): (2.10, 2.50),
    ("B", "P"): (2.35, 2.75),
    ("B", "S"): (2.15, 2.55),
    ("H", "Na"): (2.60, 3.00),
    ("C", "Na"): (2.90, 3.30),
    ("N", "Na"): (2.90, 3.30),
    ("Na", "O"): (2.90, 3.30),
    ("F", "Na"): (2.80, 3.20),
    ("Na", "P"): (3.30, 3.70),
    ("Na", "S"): (3.30, 3.70),
    ("Cl", "Na"): (3.30, 3.70),
    ("B", "Na"): (3.30, 3.70),
    ("H", "Li"): (2.20, 2.60),
    ("C", "Li"): (2.50, 2.90),
    ("Li", "N"): (2.50, 2.90),
    ("Li", "O"): (2.50, 2.90),
    ("F", "Li"): (2.40, 2.80),
    ("Li", "P"): (2.90, 3.30),
    ("Li", "S"): (2.90, 3.30),
    ("Cl", "Li"): (2.90, 3.30),
    ("B", "Li"): (2.90, 3.30),
    ("Na", "Na"): (4.80, 5.20),
    ("Li", "Na"): (4.40, 4.80),
    ("Li", "Li"): (4.10, 4.50),
}


@dataclass(frozen=True)
class PairTable:
    """Form and break distances by element index, for the elements of one trajectory.

    Parameters
    ----------
    index_of_number : (119,) array: atomic number -> element index, -1 for absent elements.
    form, break_ : (n_elements, n_elements) arrays, Å, symmetric; 0 for pairs of another kind.
    """

    index_of_number: np.ndarray
    form: np.ndarray
    break_: np.ndarray

    @property
    def cutoff(self) -> float:
        """The longest break distance, Å; 0 where there is no pair."""
        return float(self.break_.max(initial=0.0))


class BondCutoffs:
    """Form and break distances of pairs of elements.

    Parameters
    ----------
    extra : {"C-Br": (form, break)} in Å; added to, or put in place of, the defaults for
        H, Li, B, C, N, O, F, Na, P, S, Cl.

    Raises
    ------
    ValueError : for a pair that is not two elements, or distances that are not 0 < form <= break.
    """

    def __init__(self, extra: Mapping[str, tuple[float, float]] | None = None):
        self._distances = dict(DEFAULT_DISTANCES)
        for name, distances in (extra or {}).items():
            self._distances[_pair(name)] = _checked_distances(name, distances)

    def distances(self, first: str, second: str) -> tuple[float, float]:
        """Return (form, break) of a pair, Å.

        Raises
        ------
        ValueError : for a pair that has none, with the way to give it.
        """
        pair = (min(first, second), max(first, second))
        if pair not in self._distances:
            raise ValueError(_missing_text(["-".join(pair)]))
        return self._distances[pair]

    def table(self, numbers: np.ndarray, kinds: Iterable[Kind]) -> PairTable:
        """Return the table of all pairs of the given kinds among the elements present.

        Parameters
        ----------
        numbers : atomic numbers, in any shape.

        Raises
        ------
        ValueError : where pairs have no distances; all of them are named.
        """
        present = np.unique(numbers)
        index_of_number = np.full(len(chemical_symbols), -1)
        index_of_number[present] = np.arange(len(present))
        form = np.zeros((len(present), len(present)))
        break_ = np.zeros_like(form)
        wanted = set(kinds)
        symbols = [chemical_symbols[z] for z in present]
        missing = []
        for a, b in combinations_with_replacement(range(len(symbols)), 2):
            pair = (min(symbols[a], symbols[b]), max(symbols[a], symbols[b]))
            if kind_of_pair(*pair) not in wanted:
                continue
            if pair not in self._distances:
                missing.append("-".join(pair))
                continue
            form[a, b], break_[a, b] = self._distances[pair]
            form[b, a], break_[b, a] = form[a, b], break_[a, b]
        if missing:
            raise ValueError(_missing_text(missing))
        return PairTable(index_of_number, form, break_)


def _missing_text(names: list[str]) -> str:
    first = names[0]
    return (
        f"no bond distances for {'the pair' if len(names) == 1 else 'the pairs'} {', '.join(names)}: "
        "give the distances in Å at which the bond forms and breaks, as "
        f"BondCutoffs({{'{first}': (form, break), ...}}) or --bond {first}=FORM:BREAK ..."
    )


def _pair(name: str) -> tuple[str, str]:
    symbols = name.split("-")
    if len(symbols) != 2 or not all(s in atomic_numbers and s != "X" for s in symbols):
        raise ValueError(f"a pair of elements is written like C-Cl, got {name!r}")
    return min(symbols), max(symbols)


def _checked_distances(name: str, distances: tuple[float, float]) -> tuple[float, float]:
    form, break_ = distances
    if not 0 < form <= break_ < np.inf:
        raise ValueError(f"{name}: wanted 0 < form <= break, Å, got {form:g} and {break_:g}")
    return float(form), float(break_)


def parse_bond_option(text: str) -> tuple[str, tuple[float, float]]:
    """Return ("C-Cl", (2.0, 2.4)) of the text "C-Cl=2.0:2.4"."""
    name, _, values = text.partition("=")
    try:
        form, break_ = (float(value) for value in values.split(":"))
    except ValueError:
        raise ValueError(f"wanted PAIR=FORM:BREAK, as C-Cl=2.0:2.4, got {text!r}") from None
    return name, (form, break_)
