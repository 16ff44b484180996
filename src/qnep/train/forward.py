"""Energies, forces, virials and charges of a batch as differentiable functions of the parameters.

The derivative of the energy with respect to the densities A is written out by hand, so a training step needs one
reverse pass and no second derivative of the graph.

Tables and everything that goes through pairs are in the precision of the batch. Parameters, descriptors, networks and
energies are in double precision also where that is single: the sums over neighbours and functions of descriptors lose
most of what single precision loses, since a descriptor is scaled by its range in the data, which may be far smaller
than its size; and total energies of all-electron codes have more digits than single precision holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from qnep.train import pair_sums
from qnep.train.batch import Batch
from qnep.train.ewald_matrices import N_WITHOUT_VIRIAL, VIRIAL_COMPONENTS
from qnep.train.harmonics import (
    CUBIC_INVARIANTS,
    INVARIANTS,
    QUARTIC_PREFACTOR,
    cubic_invariant,
    degree_selector,
)
from qnep.train.parameters import ParameterLayout, TypeParameters

if TYPE_CHECKING:
    from qnep.model import Model


@dataclass
class Prediction:
    """What the model says about a batch, in the order of its atoms.

    energies : [n_frames], eV, in double precision.
    forces : [n_atoms, 3], eV/Å.
    virials : [n_frames, 9], eV, row-major.
    raw_charges, charges : [n_atoms], e, before and after neutralisation; None without charges.
    born_charges : [n_atoms, 9], e, row-major, first index the field; None unless asked for.
    dipoles : [n_frames, 3], e Å; None without charges.
    """

    energies: torch.Tensor
    forces: torch.Tensor
    virials: torch.Tensor
    raw_charges: torch.Tensor | None = None
    charges: torch.Tensor | None = None
    born_charges: torch.Tensor | None = None
    dipoles: torch.Tensor | None = None


@dataclass
class _TypeState:
    """Intermediate results of the atoms of one type that the force pass needs again."""

    sums: torch.Tensor  # s_n,abc [n, n_atoms, n_harmonics]
    norms: torch.Tensor  # q_n,l [n, n_atoms, l_max]
    cubic_gradients: list[torch.Tensor]  # dq/ds of each cubic invariant [n, n_atoms, n_harmonics]
    slopes: torch.Tensor  # dh/dx of the hidden layer [n_atoms, n_neurons]


class Forward:
    """The model as a function of (parameter vector in double precision, batch).

    Parameters
    ----------
    layout : of the parameter vector.
    scalers : [n_descriptors], constants on the device of the batches.
    with_mean_correction : subtract the mean of V_i in the chain rule through the neutrality shift. Without it the
        forces are not the gradient of the energy (older public codes); for comparisons only.
    """

    def __init__(
        self, layout: ParameterLayout, scalers: torch.Tensor, with_mean_correction: bool = True
    ) -> None:
        self.layout = layout
        self.model: Model = layout.model
        self.scalers = scalers.double()
        self.with_mean_correction = with_mean_correction
        self._selector = _constant(degree_selector(self.model.l_max), self.scalers)
        self._invariants = [
            name for name, on in zip(INVARIANTS, self.model.invariants, strict=True) if on
        ]
        self._cubic = {
            name: _CubicTensors(name, self.model.l_max, self.scalers)
            for name in self._invariants
            if name in CUBIC_INVARIANTS
        }

    def __call__(
        self, vector: torch.Tensor, batch: Batch, with_born_charges: bool = False
    ) -> Prediction:
        """Evaluate a batch."""
        exact = self.layout.split(vector.double(), self.scalers)
        states, outputs = self._network_pass(exact, batch)
        energies = _per_frame(outputs[:, 0] - vector[self.model.bias_offset()].double(), batch)
        dtype = batch.positions.dtype
        parts = [part.to(dtype) for part in exact]
        pairs = _pairs_of(batch)
        if not self.model.charge_mode:
            radial, angular = self._derivatives(
                parts, states, batch, [part.w1[:1] for part in parts], None
            )
            forces, virials = pair_sums.forces_and_virials(pairs, batch, radial, angular)
            return Prediction(energies, forces, virials)
        raw = outputs[:, 1].to(dtype)
        coulomb = _coulomb(raw, batch, self.with_mean_correction)
        radial, angular = self._derivatives(
            parts, states, batch, [part.w1 for part in parts], coulomb.chain
        )
        forces, virials = pair_sums.forces_and_virials(pairs, batch, radial, angular)
        prediction = Prediction(
            energies + coulomb.energies,
            forces + coulomb.forces,
            virials + coulomb.virials,
            raw,
            coulomb.charges,
        )
        # energies do not know the sign of the charges: Born charges fix it if this factor has none
        square_root = vector[self.model.sqrt_epsilon_offset].abs()
        if with_born_charges:
            radial, angular = self._derivatives(
                parts, states, batch, [part.w1[1:] for part in parts], None
            )
            local = pair_sums.born_charges(pairs, batch, radial, angular)
            identity = torch.eye(3, dtype=raw.dtype, device=raw.device).view(1, 9)
            prediction.born_charges = square_root * (coulomb.charges[:, None] * identity + local)
        if batch.labels.dipoles is not None:
            prediction.dipoles = square_root * _per_frame(
                coulomb.charges[:, None] * batch.positions, batch
            )
        return prediction

    def descriptors(self, vector: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the unscaled descriptors, [n_atoms, n_descriptors], in the order of the batch."""
        parts = self.layout.split(vector.double(), self.scalers)
        return torch.cat([self._descriptors(part, batch, t)[0] for t, part in enumerate(parts)])

    def _network_pass(
        self, parts: list[TypeParameters], batch: Batch
    ) -> tuple[list[_TypeState | None], torch.Tensor]:
        states: list[_TypeState | None] = []
        outputs = []
        for t, part in enumerate(parts):
            if batch.type_ranges[t][0] == batch.type_ranges[t][1]:
                states.append(None)  # no such atoms: save the dozens of empty operations
                continue
            descriptors, sums, norms, gradients = self._descriptors(part, batch, t)
            hidden = torch.tanh(descriptors @ part.w0.T - part.b0)
            slopes = (1 - hidden * hidden).to(sums.dtype)
            states.append(_TypeState(sums, norms, gradients, slopes))
            outputs.append(hidden @ part.w1.T)
        return states, torch.cat(outputs)

    def _descriptors(
        self, part: TypeParameters, batch: Batch, t: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Return descriptors in double precision [n_atoms, n], and s, its norms and gradients in that of the batch."""
        density = batch.angular_density[t]
        n_basis, n_atoms, width = density.shape
        n_functions = part.angular.shape[0]
        sums = (part.angular @ density.view(n_basis, n_atoms * width).double()).view(
            n_functions, n_atoms, width
        )
        norms = (sums * sums) @ self._selector
        gradients = [cubic.gradient(sums) for cubic in self._cubic.values()]
        extra = self._extra_invariants(sums, norms, gradients)
        angular = torch.cat([norms, *extra], dim=2) if extra else norms
        radial = batch.radial_density[t].double() @ part.radial.T
        flat = angular.permute(1, 2, 0).reshape(n_atoms, angular.shape[2] * n_functions)
        descriptors = torch.cat([radial, flat], dim=1)
        dtype = density.dtype
        return descriptors, sums.to(dtype), norms.to(dtype), [g.to(dtype) for g in gradients]

    def _extra_invariants(
        self, sums: torch.Tensor, norms: torch.Tensor, gradients: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        cubic = iter(gradients)
        return [
            (sums * next(cubic)).sum(dim=2, keepdim=True) / 3
            if name in self._cubic
            else QUARTIC_PREFACTOR * norms[:, :, :1] ** 2
            for name in self._invariants
        ]

    def _derivatives(
        self,
        parts: list[TypeParameters],
        states: list[_TypeState | None],
        batch: Batch,
        output_weights: list[torch.Tensor],
        chain: torch.Tensor | None,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return d(output 0 + chain * output 1)/dA of every type, radial and angular.

        output_weights : per type [1 or 2, n_neurons]; chain : [n_atoms] or None.
        """
        radial, angular = [], []
        for t, (part, state) in enumerate(zip(parts, states, strict=True)):
            if state is None:
                radial.append(torch.empty_like(batch.radial_density[t]))
                angular.append(torch.empty_like(batch.angular_density[t]))
                continue
            weights = output_weights[t][0]
            if chain is not None:
                start, stop = batch.type_ranges[t]
                weights = weights + chain[start:stop, None] * output_weights[t][1]
            slopes = (state.slopes * weights) @ part.w0
            radial.append(slopes[:, : self.model.n_max_radial + 1] @ part.radial)
            gradient = self._sums_gradient(state, slopes[:, self.model.n_max_radial + 1 :])
            flat = part.angular.T @ gradient.flatten(start_dim=1)
            angular.append(flat.view(-1, *gradient.shape[1:]))
        return radial, angular

    def _sums_gradient(self, state: _TypeState, slopes: torch.Tensor) -> torch.Tensor:
        """Return dU/ds [n, n_atoms, n_harmonics] of dU/dq [n_atoms, blocks * n]."""
        n_atoms = slopes.shape[0]
        blocks = slopes.view(n_atoms, -1, self.model.n_max_angular + 1).permute(2, 0, 1)
        l_max = self.model.l_max
        of_norms = blocks[:, :, :l_max]
        cubic_part = torch.zeros_like(state.sums)
        cubic = iter(state.cubic_gradients)
        for index, name in enumerate(self._invariants):
            slope = blocks[:, :, l_max + index : l_max + index + 1]
            if name in self._cubic:
                cubic_part = cubic_part + slope * next(cubic)
            else:
                first = 2 * QUARTIC_PREFACTOR * slope * state.norms[:, :, :1]
                of_norms = torch.cat([of_norms[:, :, :1] + first, of_norms[:, :, 1:]], dim=2)
        return 2 * state.sums * (of_norms @ self._selector.T.to(of_norms)) + cubic_part


class _CubicTensors:
    """The constants of one cubic invariant on a device."""

    def __init__(self, name: str, l_max: int, like: torch.Tensor) -> None:
        invariant = cubic_invariant(name, l_max)
        self.first = torch.from_numpy(invariant.first).to(like.device)
        self.second = torch.from_numpy(invariant.second).to(like.device)
        self.coefficients = _constant(invariant.coefficients, like)

    def gradient(self, sums: torch.Tensor) -> torch.Tensor:
        """Return dq/ds of s [..., n_harmonics]."""
        return (sums[..., self.first] * sums[..., self.second]) @ self.coefficients


@dataclass
class _Coulomb:
    charges: torch.Tensor  # [n_atoms], neutralised
    energies: torch.Tensor  # [n_frames]
    forces: torch.Tensor  # [n_atoms, 3], at fixed charges
    virials: torch.Tensor  # [n_frames, 9]
    chain: torch.Tensor  # [n_atoms], dE/dq^raw = V_i - mean V


def _coulomb(raw: torch.Tensor, batch: Batch, with_mean_correction: bool) -> _Coulomb:
    """Coulomb energy of the neutralised charges and what follows from it."""
    assert batch.coulomb is not None
    excess = (batch.labels.charges - _per_frame(raw, batch)) / batch.atoms_per_frame
    charges = raw + excess[batch.frame_of_atom]
    matrices, slots = batch.coulomb.matrices, batch.coulomb.slots
    n_frames, _, largest = matrices.shape
    padded = (
        charges.new_zeros(n_frames * largest)
        .index_copy(0, slots, charges)
        .view(n_frames, 1, largest)
    )
    fields = torch.bmm(matrices, padded.transpose(1, 2)).view(n_frames, -1, largest)
    of_atoms = fields[:, :N_WITHOUT_VIRIAL].transpose(1, 2).reshape(-1, N_WITHOUT_VIRIAL)[slots]
    potentials = of_atoms[:, 0]
    chain = potentials
    if with_mean_correction:
        mean = _per_frame(potentials, batch) / batch.atoms_per_frame
        chain = potentials - mean[batch.frame_of_atom]
    return _Coulomb(
        charges=charges,
        energies=0.5 * (padded[:, 0] * fields[:, 0]).sum(dim=1),
        forces=-charges[:, None] * of_atoms[:, 1:],
        virials=_coulomb_virials(0.5 * (padded * fields[:, N_WITHOUT_VIRIAL:]).sum(dim=2)),
        chain=chain,
    )


def _coulomb_virials(components: torch.Tensor) -> torch.Tensor:
    """Return [n_frames, 9] of the components kept; zeros if the batch has no virials and so no matrices for them."""
    virials = components.new_zeros(components.shape[0], 9)
    if components.shape[1] == 0:
        return virials
    place = {frozenset(pair): index for index, pair in enumerate(VIRIAL_COMPONENTS)}
    columns = [place[frozenset((a, b))] for a in range(3) for b in range(3)]
    return components[:, columns]


def _per_frame(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum [n_atoms, ...] over the atoms of each frame."""
    shape = (batch.n_frames, *values.shape[1:])
    return values.new_zeros(shape).index_add(0, batch.frame_of_atom, values)


def _constant(values: object, like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(values).to(device=like.device, dtype=like.dtype)


def _pairs_of(batch: Batch) -> pair_sums.CompiledPairs | pair_sums.TensorPairs:
    """Return the pair operator of a batch, made once."""
    if batch.pairs is None:
        batch.pairs = pair_sums.make_pairs(batch)
    return batch.pairs
