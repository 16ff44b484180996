"""The numbers of a model as one flat vector that optimizers work on, and its parts as the forward pass needs them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from qnep._optional import require
from qnep.train.radial import orthonormal_transform

if TYPE_CHECKING:
    import torch

    from qnep.model import Model


SATURATION = -20.0
"""Bias of a neuron that is always on: tanh(20) = 1 in single and double precision."""


@dataclass(frozen=True)
class TypeParameters:
    """What belongs to the atoms of one type.

    w0 : [n_neurons, n_descriptors], scaled: acts on unscaled descriptors.
    b0 : [n_neurons].
    w1 : [n_outputs, n_neurons].
    radial, angular : [n + 1, n_types * n_basis], coefficients of the trainer's basis.
    """

    w0: torch.Tensor
    b0: torch.Tensor
    w1: torch.Tensor
    radial: torch.Tensor
    angular: torch.Tensor

    def to(self, dtype: torch.dtype) -> TypeParameters:
        """Return the parts in another precision."""
        return TypeParameters(*(getattr(self, item.name).to(dtype) for item in fields(self)))


class ParameterLayout:
    """Translates between the parameters of a model file and the trainer's vector.

    The vector has the order of the file without the scaling factors (constants of the training); the coefficients of
    the radial functions are those of `radial.orthonormal_transform`.
    """

    def __init__(self, model: Model) -> None:
        if model.kind != "potential" or model.version != 4 or model.has_temperature:
            raise ValueError(
                f"only nep4 and nep4_charge1/2 models can be trained here, got {model.token}"
            )
        self.model = model
        self.n_trained = model.scaler_offset
        n_types = model.n_types
        self._radial_shape = (model.n_max_radial + 1, model.basis_size_radial + 1, n_types, n_types)
        self._angular_shape = (
            model.n_max_angular + 1,
            model.basis_size_angular + 1,
            n_types,
            n_types,
        )

    def to_vector(self, parameters: np.ndarray) -> np.ndarray:
        """Return the trainer's vector [n_trained] of file parameters, float64."""
        vector = self._transform(parameters, is_inverse=True)
        offset = self.model.sqrt_epsilon_offset
        if self.model.charge_mode and vector[offset] < 0:
            # the same energies, forces and Born charges with all charges of the other sign
            vector[offset] *= -1.0
            for t in range(self.model.n_types):
                vector[self.network_slices(t)[2]].reshape(2, -1)[1] *= -1.0
        return vector

    def to_file(self, vector: np.ndarray, scalers: np.ndarray) -> np.ndarray:
        """Return file parameters; scalers [n_descriptors]. ZBL parameters stay those of the model."""
        tail = np.asarray(self.model.parameters)[self.model.zbl_offset :]
        head = self._transform(vector, is_inverse=False)
        if self.model.charge_mode:
            head[self.model.sqrt_epsilon_offset] = abs(head[self.model.sqrt_epsilon_offset])
        return np.concatenate([head, scalers, tail])

    def _transform(self, values: np.ndarray, is_inverse: bool) -> np.ndarray:
        result = np.array(values[: self.n_trained], dtype=float)
        for part, shape in (
            (self.radial_slice, self._radial_shape),
            (self.angular_slice, self._angular_shape),
        ):
            matrix = orthonormal_transform(shape[1])
            matrix = np.linalg.inv(matrix) if is_inverse else matrix
            coefficients = result[part].reshape(shape)
            result[part] = np.einsum("nmij,mk->nkij", coefficients, matrix).ravel()
        return result

    @property
    def radial_slice(self) -> slice:
        return slice(self.model.radial_offset, self.model.angular_offset)

    @property
    def angular_slice(self) -> slice:
        return slice(self.model.angular_offset, self.model.scaler_offset)

    def network_slices(self, type_index: int) -> tuple[slice, slice, slice]:
        """Return where w0, b0 and w1 of a type are."""
        model = self.model
        start = model.network_offset(type_index)
        b0 = start + model.n_neurons * model.n_descriptors
        w1 = b0 + model.n_neurons
        return (
            slice(start, b0),
            slice(b0, w1),
            slice(w1, w1 + model.n_outputs * model.n_neurons),
        )

    def decays(self, vector: np.ndarray) -> np.ndarray:
        """Return 1 for the parameters that weight decay acts on (w0, w1, coefficients), 0 for biases, [n_trained].

        The output weights of neurons that are always on in `vector` [n_trained] are biases too: the energy (eV) and
        the charge (e) of the element. Decay is in proportion to their size, hundreds of eV, and would outrun Adam,
        which moves by the learning rate.
        """
        mask = np.zeros(self.n_trained)
        mask[self.radial_slice] = mask[self.angular_slice] = 1.0
        for t in range(self.model.n_types):
            w0, _, w1 = self.network_slices(t)
            mask[w0] = 1.0
            mask[w1] = np.tile(~self._always_on(vector, t), self.model.n_outputs)
        return mask

    def add_energies(self, vector: np.ndarray, energies: np.ndarray) -> np.ndarray | None:
        """Return a vector [n_trained] with energies added to all atoms of each type, eV [n_types].

        Different energies need a neuron that is always on in every network; for equal ones there is the common bias.
        None: the model has no place for these energies.
        """
        result = vector.copy()
        if np.ptp(energies) == 0:
            result[self.model.bias_offset()] -= energies[0]  # the bias is taken off
            return result
        for t in range(self.model.n_types):
            if energies[t] == 0:
                continue
            places = np.flatnonzero(self._always_on(vector, t))
            if not len(places):
                return None
            _, b0, w1 = self.network_slices(t)
            result[w1.start + places[0]] += energies[t] * np.tanh(-vector[b0][places[0]])
        return result

    def _always_on(self, vector: np.ndarray, type_index: int) -> np.ndarray:
        """Return which neurons of a type are saturated whatever the descriptor, [n_neurons]."""
        w0, b0, _ = self.network_slices(type_index)
        has_weights = vector[w0].reshape(self.model.n_neurons, -1).any(axis=1)
        return ~has_weights & (np.abs(vector[b0]) >= abs(SATURATION))

    def split(self, vector: torch.Tensor, scalers: torch.Tensor) -> list[TypeParameters]:
        """Return the parts of every type, as differentiable views of the vector."""
        model = self.model
        radial = vector[self.radial_slice].view(self._radial_shape)
        angular = vector[self.angular_slice].view(self._angular_shape)
        parts = []
        for t in range(model.n_types):
            w0, b0, w1 = self.network_slices(t)
            parts.append(
                TypeParameters(
                    w0=vector[w0].view(model.n_neurons, model.n_descriptors) * scalers,
                    b0=vector[b0],
                    w1=vector[w1].view(model.n_outputs, model.n_neurons),
                    radial=radial[:, :, t].permute(0, 2, 1).reshape(model.n_max_radial + 1, -1),
                    angular=angular[:, :, t].permute(0, 2, 1).reshape(model.n_max_angular + 1, -1),
                )
            )
        return parts


def to_tensor(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Return an array as a tensor of the same device and precision as another."""
    torch = require("torch", extra="train")
    return torch.from_numpy(np.ascontiguousarray(values)).to(device=like.device, dtype=like.dtype)
