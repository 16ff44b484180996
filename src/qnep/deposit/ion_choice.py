"""Which ion is carried next, and where a new one comes in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import units
from ase.data import atomic_masses, atomic_numbers
from ase.geometry import get_distances
from scipy.spatial import cKDTree

from qnep.deposit.frame import PICOSECOND, Frame
from qnep.deposit.interval import SHELL_ELEMENTS, SHELL_RADIUS
from qnep.deposit.regions import Regions

RESERVOIR_FRACTION = 0.3  # of the electrolyte's height, at its far end, in which new atoms come in
CLOSEST_INSERTION = 1.9  # Å; nearer than this to another atom a new one does not fit
N_TRIALS = 4000


class NoSodiumLeft(ValueError):
    """Every ion is down: there is nothing to carry."""


def shell_atoms(frame: Frame, regions: Regions) -> tuple[int, ...]:
    """Indices of the electrolyte's atoms that solvate sodium."""
    solvating = np.flatnonzero(frame.is_element(*SHELL_ELEMENTS))
    return tuple(int(i) for i in solvating if i in set(regions.electrolyte))


def coordination_numbers(frame: Frame, ions: Sequence[int], shell: Sequence[int]) -> np.ndarray:
    """Smooth count of shell atoms around each ion, as PLUMED's RATIONAL switch with NN=8 MM=16 counts."""
    if not len(shell):
        return np.zeros(len(ions))
    _, distances = get_distances(
        frame.positions[list(ions)], frame.positions[list(shell)], cell=frame.cell, pbc=frame.pbc
    )
    return (1.0 / (1.0 + (distances / SHELL_RADIUS) ** 8)).sum(axis=1)


def choose_ion(
    frame: Frame, regions: Regions, carriers: Sequence[int], arrival_height: float, choice: str,
    generator: np.random.Generator,
) -> int:  # fmt: skip
    """Return the index of the ion to carry next among those that are not down yet.

    Raises
    ------
    NoSodiumLeft : none of the carriers is above the arrival height.
    """
    heights = regions.heights(frame.positions)
    waiting = [i for i in carriers if heights[i] >= arrival_height]
    if not waiting:
        raise NoSodiumLeft(
            f"no sodium left to deposit: all {len(carriers)} ions of the electrolyte are below {arrival_height} Å"
        )
    if choice == "random":
        return int(generator.choice(waiting))
    if choice == "nearest":
        return int(min(waiting, key=lambda i: heights[i]))
    counts = coordination_numbers(frame, waiting, shell_atoms(frame, regions))
    return int(waiting[int(np.argmin(counts))])


def insert_sodium(
    frame: Frame, regions: Regions, temperature: float, generator: np.random.Generator
) -> Frame:
    """Return the frame with a neutral sodium atom in the widest hole of the electrolyte's far end.

    Raises
    ------
    ValueError : no place there is CLOSEST_INSERTION away from all atoms.
    """
    heights = regions.heights(frame.positions)
    low, high = np.percentile(
        heights[list(regions.electrolyte)], [100 * (1 - RESERVOIR_FRACTION), 98]
    )
    surface = regions.level(frame.positions, regions.surface)
    trials = generator.random((N_TRIALS, 3)) @ frame.cell
    trials[:, regions.axis] = surface + regions.side * generator.uniform(low, high, N_TRIALS)
    if frame.pbc[regions.axis]:
        trials[:, regions.axis] %= frame.cell[regions.axis, regions.axis]
    room, _ = cKDTree(_with_images(frame)).query(trials)
    best = int(np.argmax(room))
    if room[best] < CLOSEST_INSERTION:
        raise ValueError(
            f"no room for a new sodium atom {low:.1f} to {high:.1f} Å above the anode: the widest hole leaves "
            f"{room[best]:.2f} Å, {CLOSEST_INSERTION} Å are needed"
        )
    mass = atomic_masses[atomic_numbers["Na"]]
    velocity = generator.normal(size=3) * np.sqrt(units.kB * temperature / mass) * PICOSECOND
    return frame.with_atom("Na", trials[best], velocity)


def _with_images(frame: Frame) -> np.ndarray:
    """Positions of the atoms and of their nearest periodic images, for trial places inside the cell."""
    fractions = np.linalg.solve(frame.cell.T, frame.positions.T).T
    wrapped = frame.positions - np.floor(fractions) * frame.pbc @ frame.cell
    steps = [(-1, 0, 1) if periodic else (0,) for periodic in frame.pbc]
    shifts = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3) @ frame.cell
    return (wrapped[None, :, :] + shifts[:, None, :]).reshape(-1, 3)
