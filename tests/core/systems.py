"""Systems and models for the tests of the engine."""

from __future__ import annotations

import numpy as np

from qnep import Model, _core
from qnep.model import random_model
from qnep.neighbors import VerletList

ELEMENTS = ("C", "F", "H", "Na", "O", "P")
INVARIANT_FLAGS = {
    "none": (4,),
    "222": (4, 2, 0),
    "222 1111": (4, 2, 1),
    "1111": (2, 0, 1),
    "112": (2, 0, 0, 1),
    "123 233": (3, 0, 0, 0, 1, 1),
    "134": (4, 0, 0, 0, 0, 0, 1),
    "all": (5, 1, 1, 1, 1, 1, 1),
    "l_max 1": (1,),
    "l_max 8": (8, 1),
}
CELLS = {
    "cube": np.diag([7.3, 7.1, 7.7]),
    "triclinic": np.array([[7.5, 0.4, -0.9], [2.1, 6.9, 0.3], [-1.3, 2.2, 7.7]]),
    "left-handed": np.array([[2.1, 6.9, 0.3], [7.5, 0.4, -0.9], [-1.3, 2.2, 7.7]]),
    "thin": np.diag([2.6, 9.0, 8.0]),
}
ZBL = {"universal": (0.7, 1.9), "type-wise": (0.5, 1.8, 0.65), "flexible": (0, 0)}


def random_system(cell, n_atoms, n_types, random, shortest=1.3):
    """Types and positions, no two atoms (or images) nearer than `shortest` Å."""
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3) @ cell
    positions = np.empty((0, 3))
    for _ in range(20000):
        candidate = random.uniform(size=3) @ cell
        vectors = positions[:, None] + shifts - candidate
        if len(positions) == 0 or np.linalg.norm(vectors, axis=-1).min() > shortest:
            positions = np.vstack([positions, candidate])
        if len(positions) == n_atoms:
            return random.integers(n_types, size=n_atoms).astype(np.int32), positions
    raise ValueError(f"{n_atoms} atoms do not fit into the cell")


class System:
    """One evaluator on one structure, with a neighbour list made at its first positions.

    A skin of 0.3 Å lets the positions move a little, as for finite differences.
    """

    def __init__(self, model: Model, types, positions, cell, **options):
        self.evaluator = _core.Evaluator(model, **options)
        pairs = VerletList(model.largest_cutoff, skin=0.3)
        pairs.update(positions, cell, np.ones(3, bool))
        self.evaluator.set_neighbors(
            len(types), np.asarray(types, np.int32), pairs.first, pairs.second, pairs.shifts
        )
        self.cell = cell

    def __call__(self, positions, cell=None, **options):
        cell = self.cell if cell is None else cell
        return self.evaluator.evaluate(positions, cell, **{"kspace": "ewald", **options})


def small_model(n_types: int = 3, seed: int = 7, **settings) -> Model:
    """A random model whose evaluation by explicit loops takes no more than a second."""
    defaults = {
        "radial_cutoff": 4.2,
        "angular_cutoff": 3.4,
        "n_max": (3, 2),
        "basis_size": (5, 4),
        "n_neurons": 7,
    }
    return random_model(ELEMENTS[:n_types], seed=seed, **{**defaults, **settings})
