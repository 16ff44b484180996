"""Where training begins: scaled descriptors, networks centred on the data, energies of the elements fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from qnep.train.batch import BatchBuilder
from qnep.train.dataset import sample_frames
from qnep.train.forward import Forward
from qnep.train.frames import Frame
from qnep.train.parameters import SATURATION, ParameterLayout

if TYPE_CHECKING:
    from qnep.model import Model

N_SAMPLE = 200  # structures whose descriptors are looked at
FRAMES_AT_ONCE = 8
OUTPUT_SCALE = 0.1  # of the initial energies (eV) and charges (e)
BIAS_SPREAD = 0.5
WEIGHT_SCALE = 0.5  # spread of the argument of tanh over the data
SMALLEST_RATIO = 1e-8
"""Of singular values; below it elements come in one ratio but for rounding, and the data do not tell them apart."""


def initial_parameters(
    model: Model,
    frames: Sequence[Frame],
    seed: int,
    with_energy_shift: bool,
    smoothness: float = 0.5,
    charges: Sequence[float] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Return the trainer's vector [n_trained] and the scaling factors [n_descriptors].

    The scaling factors give every descriptor unit spread within its element. The networks look at the middle of the
    data. The first neuron of each network is always on: its output weights are the energy and the charge of the element
    far from everything, which nep4 has no other place for. charges : e, of each element, to begin with.
    """
    if len(charges) not in (0, model.n_types):
        raise ValueError(f"initial_charges needs {model.n_types} numbers, got {len(charges)}")
    random = np.random.default_rng(seed)
    layout = ParameterLayout(model)
    vector = np.zeros(layout.n_trained)
    for part, n_basis in (
        (layout.radial_slice, model.basis_size_radial + 1),
        (layout.angular_slice, model.basis_size_angular + 1),
    ):
        vector[part] = _smooth_coefficients(
            random, part.stop - part.start, n_basis, model.n_types, smoothness
        )
    means, scalers = _descriptor_statistics(
        model, layout, vector, sample_frames(frames, N_SAMPLE, seed)
    )
    energies = (
        element_energies(frames, model.n_types) if with_energy_shift else np.zeros(model.n_types)
    )
    for t in range(model.n_types):
        w0_slice, b0_slice, w1_slice = layout.network_slices(t)
        w0 = (
            WEIGHT_SCALE
            * random.normal(size=(model.n_neurons, model.n_descriptors))
            / np.sqrt(model.n_descriptors)
        )
        b0 = w0 @ (means[t] * scalers) + BIAS_SPREAD * random.normal(size=model.n_neurons)
        w1 = (
            OUTPUT_SCALE
            * random.normal(size=(model.n_outputs, model.n_neurons))
            / np.sqrt(model.n_neurons)
        )
        w0[0], b0[0], w1[:, 0] = 0.0, SATURATION, 0.0
        w1[0, 0] = energies[t]
        if model.charge_mode and charges:
            w1[1, 0] = charges[t]
        vector[w0_slice], vector[b0_slice], vector[w1_slice] = w0.ravel(), b0, w1.ravel()
    if model.charge_mode:
        vector[model.sqrt_epsilon_offset] = 1.0
    return vector, scalers


def _smooth_coefficients(
    random: np.random.Generator, n_coefficients: int, n_basis: int, n_types: int, smoothness: float
) -> np.ndarray:
    """Return random coefficients [n][k][t_i][t_j], flat, smaller for the faster varying functions k.

    The functions of the trainer's basis have about k zeros. Where data are few, what they leave open stays as it
    began: smooth.
    """
    shape = (n_coefficients // (n_basis * n_types**2), n_basis, n_types, n_types)
    sizes = (1.0 + np.arange(n_basis)) ** -smoothness
    return (random.normal(size=shape) * sizes[None, :, None, None]).ravel()


def element_energies(frames: Sequence[Frame], n_types: int) -> np.ndarray:
    """Return the energies of the elements that explain the total energies best, eV [n_types].

    Elements that always come in one ratio share their energy; an element without atoms has none. Every element counts
    in units of its own frequency, so that rare ones are found as exactly as common ones.
    """
    weights = np.array(
        [frame.weight * np.sqrt(frame.energy_weight) / frame.n_atoms for frame in frames]
    )
    counts = np.array(
        [np.bincount(frame.types, minlength=n_types) for frame in frames], dtype=float
    )
    energies = np.array([frame.energy for frame in frames], dtype=float)
    matrix = counts * weights[:, None]
    lengths = np.linalg.norm(matrix, axis=0)
    lengths[lengths == 0] = 1.0
    scaled = np.linalg.lstsq(matrix / lengths, energies * weights, rcond=SMALLEST_RATIO)[0]
    return scaled / lengths


def _descriptor_statistics(
    model: Model, layout: ParameterLayout, vector: np.ndarray, frames: Sequence[Frame]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean descriptors of each type [n_types, n_descriptors] and the scaling factors."""
    builder = BatchBuilder(model, "double", with_coulomb=False)
    forward = Forward(layout, torch.ones(model.n_descriptors, dtype=torch.float64))
    counts = np.zeros(model.n_types)
    sums = np.zeros((model.n_types, model.n_descriptors))
    squares = np.zeros_like(sums)
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        batch = builder.build(frames[start : start + FRAMES_AT_ONCE], [])
        values = forward.descriptors(torch.from_numpy(vector), batch).numpy()
        for t, (first, last) in enumerate(batch.type_ranges):
            counts[t] += last - first
            sums[t] += values[first:last].sum(axis=0)
            squares[t] += (values[first:last] ** 2).sum(axis=0)
    present = counts > 0
    number = np.maximum(counts, 1)[:, None]
    means = sums / number
    variances = np.maximum(squares / number - means**2, 0)
    spread = np.sqrt(variances[present]).mean(axis=0)
    return means, np.where(spread > 1e-10, 1 / np.maximum(spread, 1e-10), 1.0)
