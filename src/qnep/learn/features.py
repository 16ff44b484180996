"""The vectors by which environments of atoms are compared: scaled descriptors of a model."""

from __future__ import annotations

import hashlib

import numpy as np
from ase import Atoms

from qnep.calculator import QNEP
from qnep.model import Model


class Features:
    """Scaled descriptors: what the network of a model sees.

    The scaling factors of a trained model give every component about unit spread over its training data, so that a
    distance of one is as far apart as two random environments. The descriptors are used, not the neurons: those
    saturate outside the training data and would hide an extrapolation.

    Parameters
    ----------
    model : of a potential.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._calculator = QNEP(model)
        offset = model.scaler_offset
        self._scalers = np.array(model.parameters)[offset : offset + model.n_descriptors]

    @property
    def digest(self) -> str:
        """Characters that differ for models with different feature vectors."""
        return hashlib.sha256(self.model.format().encode()).hexdigest()[:16]

    def __call__(self, atoms: Atoms) -> np.ndarray:  # [n_atoms, n_features]
        """Return the feature vectors of all atoms."""
        return self._calculator.get_descriptors(atoms) * self._scalers
