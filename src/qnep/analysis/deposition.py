"""Where the sodium is: deposited, in the interphase or in the electrolyte; and what has been lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qnep.analysis.bond_cutoffs import BondCutoffs
from qnep.analysis.frame import Frame
from qnep.analysis.layers import area
from qnep.analysis.materials import Material, MaterialSorter


@dataclass(frozen=True)
class DepositionRow:
    """Counts of one frame; deposited + in the interphase + in the electrolyte = all atoms of the cation.

    Parameters
    ----------
    time : fs (or frame number).
    n_deposited : atoms that are metal, or in the anode's region.
    n_in_sei : ions that touch inorganic or organic products.
    n_in_electrolyte : the other ions.
    min_charge : least charge among the deposited atoms, e; nan without charges or deposited atoms.
    cation_loss_percent : ions that went into the interphase since the first frame, of those that were in the
        electrolyte then.
    solvent_loss_percent, salt_loss_percent : molecules of the first frame's solvents and salt anions
        that are gone; nan where there were none.
    """

    time: float
    n_deposited: int
    n_in_sei: int
    n_in_electrolyte: int
    min_charge: float
    cation_loss_percent: float
    solvent_loss_percent: float
    salt_loss_percent: float


class DepositionAnalysis:
    """Counts deposited atoms and losses, one frame at a time.

    Parameters
    ----------
    cation : symbol.
    anode_range : (lowest, highest) height along the normal, Å in the cell's own coordinates, wherever these begin:
        atoms of the cation there (in a periodic cell: of which an image is there) count as deposited, for carbon and
        other electrodes in which sodium is not metallic. Without it, atoms of the metal are the deposited ones.
    normal : axis across the interface.
    """

    def __init__(
        self,
        cation: str = "Na",
        anode_range: tuple[float, float] | None = None,
        normal: int = 2,
        cutoffs: BondCutoffs | None = None,
    ):
        if anode_range is not None and not anode_range[0] < anode_range[1]:
            raise ValueError(f"anode_range must rise, got {anode_range}")
        self.cation, self.anode_range, self.normal = cation, anode_range, normal
        self._sorter = MaterialSorter(cutoffs)
        self._rows: list[DepositionRow] = []
        self._start: dict[str, int] = {}

    def add(self, frame: Frame) -> None:
        """Take the next frame.

        Raises
        ------
        ValueError : where the frame has no atom of the cation.
        """
        material, species, root = self._sorter.sort(frame)
        atoms = np.flatnonzero(frame.is_element(self.cation))
        if len(atoms) == 0:
            raise ValueError(f"frame {frame.index} has no {self.cation}")
        down = self._is_deposited(frame, atoms, material)
        solid = (Material.INORGANIC, Material.ORGANIC)
        n_in_sei = int((np.isin(material[atoms], solid) & ~down).sum())
        now = {
            "sei": n_in_sei, "electrolyte": len(atoms) - int(down.sum()) - n_in_sei,
            **self._electrolyte(species, root),
        }  # fmt: skip
        self._start = self._start or now
        charges = np.empty(0) if frame.charges is None else frame.charges[atoms[down]]
        start = self._start
        self._rows.append(
            DepositionRow(
                frame.time, int(down.sum()), n_in_sei, now["electrolyte"],
                float(charges.min()) if len(charges) else float("nan"),
                _percent(n_in_sei - start["sei"], start["electrolyte"]),
                _percent(start["solvent"] - now["solvent"], start["solvent"]),
                _percent(start["anion"] - now["anion"], start["anion"]),
            )
        )  # fmt: skip

    def _is_deposited(self, frame: Frame, atoms: np.ndarray, material: np.ndarray) -> np.ndarray:
        """Return a mask over the cation's atoms."""
        if self.anode_range is None:
            return material[atoms] == Material.METAL
        low, high = self.anode_range
        length = frame.volume / area(frame, self.normal)
        scaled = np.linalg.solve(frame.cell.T, frame.positions[atoms].T)[self.normal]
        above = scaled * length - low
        if frame.pbc[self.normal]:
            above %= length  # of the first image that is not below the range
        return (above >= 0.0) & (above <= high - low)

    def _electrolyte(self, species: np.ndarray, root: np.ndarray) -> dict[str, int]:
        """Return the numbers of intact solvent and salt-anion molecules."""
        of_molecule = species[root == np.arange(len(root))]
        roles = np.array([one.role for one in self._sorter.species])[of_molecule]
        return {role: int((roles == role).sum()) for role in ("solvent", "anion")}

    def result(self) -> list[DepositionRow]:
        """Return one row for each frame."""
        return list(self._rows)


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else float("nan")
