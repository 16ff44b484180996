"""A slow, direct evaluation of NEP and qNEP energies that shares no code and no form with the engine.

Complex spherical harmonics and Wigner 3j symbols from libraries instead of tabulated polynomials, explicit loops over
periodic images instead of neighbour lists, a plain sum over reciprocal vectors. Energies and charges only: forces are
checked as their differences. Sources: J. Chem. Phys. 157, 114801 (2022), doi:10.1063/5.0106617; arXiv:2601.19034.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from scipy.special import eval_chebyt, lpmv
from sympy.physics.wigner import wigner_3j

from qnep import Model

COULOMB_CONSTANT = 14.399645  # eV Å e⁻²
COVALENT_RADII = {"H": 0.32, "C": 0.75, "F": 0.64}  # Å, of J. Chem. Phys. 132, 154104 (2010)
INVARIANTS = ((2, 2, 2), None, (1, 1, 2), (1, 2, 3), (2, 3, 3), (1, 3, 4))


class Reference:
    """Energies of a model from its file format alone.

    Parameters
    ----------
    model : a model of energies.
    temperature : K, of models that depend on it.
    """

    def __init__(self, model: Model, temperature: float = 0.0):
        self.model = model
        self.temperature = temperature
        p = model.parameters
        n_types = len(model.elements)
        shape = (model.n_max_radial + 1, model.basis_size_radial + 1, n_types, n_types)
        start = model.radial_offset
        self.radial = p[start : start + np.prod(shape)].reshape(shape)  # [n, k, t_i, t_j]
        shape = (model.n_max_angular + 1, model.basis_size_angular + 1, n_types, n_types)
        start = model.angular_offset
        self.angular = p[start : start + np.prod(shape)].reshape(shape)
        self.scaler = p[model.scaler_offset : model.scaler_offset + model.n_descriptors]

    def descriptors(self, types: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """[n_atoms, n_descriptors], unscaled."""
        return np.array([self._descriptor(i, types, positions, cell) for i in range(len(types))])

    def energy(
        self, types: np.ndarray, positions: np.ndarray, cell: np.ndarray, total_charge: float = 0.0
    ) -> tuple[float, np.ndarray]:
        """Energy in eV and charges in e."""
        outputs = np.array(
            [self._network(t, q) for t, q in zip(types, self.descriptors(types, positions, cell))]
        )
        energy = outputs[:, 0].sum() + self._repulsion(types, positions, cell)
        if self.model.charge_mode == 0:
            return energy, np.empty(0)
        charges = outputs[:, 1] + (total_charge - outputs[:, 1].sum()) / len(types)
        return energy + self._electrostatics(charges, positions, cell), charges

    def _pairs(self, i, types, positions, cell, cutoffs):
        """Types, vectors and pair cutoffs of the neighbours of atom i."""
        longest = max(cutoffs)
        heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        ranges = [range(-n, n + 1) for n in np.ceil(longest / heights).astype(int) + 1]
        for j in range(len(types)):
            cutoff = 0.5 * (cutoffs[types[i]] + cutoffs[types[j]])
            for shift in product(*ranges):
                vector = positions[j] + np.array(shift) @ cell - positions[i]
                distance = np.linalg.norm(vector)
                if 1e-8 < distance < cutoff:
                    yield types[j], vector, distance, cutoff

    def _basis(self, distance: float, cutoff: float, n: int) -> np.ndarray:
        smooth = 0.5 * np.cos(np.pi * distance / cutoff) + 0.5
        x = 2.0 * (distance / cutoff - 1.0) ** 2 - 1.0
        values = 0.5 * (eval_chebyt(np.arange(n), x) + 1.0) * smooth
        values[0] = smooth
        return values

    def _descriptor(self, i, types, positions, cell) -> np.ndarray:
        model, t = self.model, types[i]
        radial = np.zeros(model.n_max_radial + 1)
        for t_j, _, distance, cutoff in self._pairs(
            i, types, positions, cell, model.radial_cutoffs
        ):
            radial += self.radial[:, :, t, t_j] @ self._basis(
                distance, cutoff, self.radial.shape[1]
            )
        sums = {
            (l, m): np.zeros(model.n_max_angular + 1, complex)
            for l in range(1, model.l_max + 1)
            for m in range(-l, l + 1)
        }
        for t_j, vector, distance, cutoff in self._pairs(
            i, types, positions, cell, model.angular_cutoffs
        ):
            g = self.angular[:, :, t, t_j] @ self._basis(distance, cutoff, self.angular.shape[1])
            for (l, m), total in sums.items():
                total += g * spherical_harmonic(l, m, vector / distance)
        blocks = [radial]
        blocks += [
            sum(np.abs(sums[l, m]) ** 2 for m in range(-l, l + 1))
            for l in range(1, model.l_max + 1)
        ]
        for is_on, orders in zip(model.invariants, INVARIANTS):
            if is_on and orders is None:
                blocks.append(7.0 / 15.0 * blocks[1] ** 2)
            elif is_on:
                blocks.append(
                    sum(
                        (w * sums[orders[0], a] * sums[orders[1], b] * sums[orders[2], c]).real
                        for a, b, c, w in contraction(orders)
                    )
                )
        if model.has_temperature:
            blocks.append([self.temperature])
        return np.concatenate(blocks)

    def _network(self, t: int, descriptor: np.ndarray) -> np.ndarray:
        model, p = self.model, self.model.parameters
        n, dim = model.n_neurons, model.n_descriptors
        start = model.network_offset(t)
        weights = p[start : start + n * dim].reshape(n, dim)
        biases, outputs = np.split(p[start + n * dim :][: n * (1 + model.n_outputs)], [n])
        hidden = np.tanh(weights @ (descriptor * self.scaler) - biases)
        values = outputs.reshape(model.n_outputs, n) @ hidden
        values[0] -= p[model.bias_offset()]
        if model.version == 5:
            values[0] -= p[start + model.network_size - 1]
        return values

    def _repulsion(self, types, positions, cell) -> float:
        if self.model.zbl == "none":
            return 0.0
        total = 0.0
        for i in range(len(types)):
            for t_j, _, distance, _ in self._pairs(
                i, types, positions, cell, self.model.angular_cutoffs
            ):
                total += 0.5 * self._repulsion_of_pair(types[i], t_j, distance)
        return total

    def _repulsion_of_pair(self, t_i: int, t_j: int, distance: float) -> float:
        from ase.data import atomic_numbers

        model = self.model
        z_i, z_j = (atomic_numbers[model.elements[t]] for t in (t_i, t_j))
        inner, outer = model.zbl_inner_cutoff, model.zbl_outer_cutoff
        terms = [
            (0.18175, 3.1998),
            (0.50986, 0.94229),
            (0.28022, 0.4029),
            (0.02817, 0.20162),
        ]
        if model.zbl == "typewise":
            radii = (4.0 / 3.0 * COVALENT_RADII[model.elements[t]] for t in (t_i, t_j))
            inner, outer = 0.0, min(model.zbl_typewise_factor * sum(radii), outer)
        if model.zbl == "flexible":
            pairs = [
                (a, b) for a in range(len(model.elements)) for b in range(a, len(model.elements))
            ]
            number = pairs.index((min(t_i, t_j), max(t_i, t_j)))
            numbers = model.parameters[model.zbl_offset + 10 * number :][:10]
            inner, outer = numbers[:2]
            terms = numbers[2:].reshape(4, 2)
        length = 2.134563 * (z_i**0.23 + z_j**0.23)
        screening = sum(a * np.exp(-b * distance * length) for a, b in terms)
        switching = 1.0
        if distance > inner:
            switching = 0.5 + 0.5 * np.cos(np.pi * (distance - inner) / (outer - inner))
        if distance >= outer:
            return 0.0
        return COULOMB_CONSTANT * z_i * z_j / distance * screening * switching

    def _electrostatics(self, charges, positions, cell) -> float:
        alpha = np.pi / max(self.model.radial_cutoffs)
        volume = abs(np.linalg.det(cell))
        reciprocal = 2.0 * np.pi * np.linalg.inv(cell).T
        ranges = [
            range(-n, n + 1) for n in np.floor(alpha * np.linalg.norm(cell, axis=1)).astype(int) + 1
        ]
        total = 0.0
        for numbers in product(*ranges):
            k = np.array(numbers) @ reciprocal
            k2 = k @ k
            if 0.0 < k2 < (2.0 * np.pi * alpha) ** 2:
                factor = np.abs(np.sum(charges * np.exp(-1j * positions @ k))) ** 2
                total += 2.0 * np.pi / volume * np.exp(-k2 / (4.0 * alpha**2)) / k2 * factor
        energy = COULOMB_CONSTANT * total
        if self.model.charge_mode == 1:
            energy += self._real_space(charges, positions, cell, alpha)
            energy -= COULOMB_CONSTANT * alpha / np.sqrt(np.pi) * np.sum(charges**2)
        return energy

    def _real_space(self, charges, positions, cell, alpha) -> float:
        from scipy.special import erfc

        total = 0.0
        labels = np.arange(len(charges))
        cutoff = max(self.model.radial_cutoffs)
        for i in labels:
            for j, _, distance, _ in self._pairs(
                i, labels, positions, cell, [cutoff] * len(labels)
            ):
                total += charges[i] * charges[j] * erfc(alpha * distance) / distance
        return 0.5 * COULOMB_CONSTANT * total


def spherical_harmonic(l: int, m: int, u: np.ndarray) -> complex:
    """Orthonormal Y_lm of a unit vector, Condon-Shortley phase."""
    if m < 0:
        return (-1) ** m * np.conj(spherical_harmonic(l, -m, u))
    norm = (2 * l + 1) / (4 * np.pi)
    for factor in range(l - m + 1, l + m + 1):
        norm /= factor
    return np.sqrt(norm) * lpmv(m, l, u[2]) * np.exp(1j * m * np.arctan2(u[1], u[0]))


@cache
def contraction(orders: tuple[int, int, int]) -> list[tuple[int, int, int, float]]:
    """The non-zero Wigner 3j symbols (l1 l2 l3; a b c)."""
    l1, l2, l3 = orders
    return [
        (a, b, -a - b, float(wigner_3j(l1, l2, l3, a, b, -a - b)))
        for a in range(-l1, l1 + 1)
        for b in range(-l2, l2 + 1)
        if abs(a + b) <= l3
    ]
