"""Where training begins: scaled descriptors, networks centred on the data, energies of the elements fitted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from qnep.train.batch import BatchBuilder
from qnep.train.dataset import sample_frames
from qnep.train.forward import Forward
from qnep.train.frames import Frame
from qnep.train.parameters import SATURATION, ParameterLayout
from qnep.train.settings import SettingsError

if TYPE_CHECKING:
    from qnep.model import Model

log = logging.getLogger(__name__)

N_SAMPLE = 200  # structures whose descriptors are looked at
N_WITH_ELEMENT = 10  # of them at least, with each element
FRAMES_AT_ONCE = 8
OUTPUT_SCALE = 0.1  # of the initial energies (eV) and charges (e)
BIAS_SPREAD = 0.5
WEIGHT_SCALE = 0.5  # spread of the argument of tanh over the data
LARGEST_OFFSET = (
    0.5  # eV/atom; energies of a model to fine-tune that are further off have another zero
)
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
        model, layout, vector, _sample_with_all_elements(frames, model.n_types, seed)
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


def on_zero_of_data(
    layout: ParameterLayout, vector: np.ndarray, frames: Sequence[Frame], errors: np.ndarray
) -> np.ndarray:
    """Return the vector of a model that is fine-tuned, on the zero of energy of the data.

    It moves only where half of the energies are off by more than `LARGEST_OFFSET`, and energies of the elements explain
    that: what fine-tuning is there to learn stays.

    Parameters
    ----------
    vector : [n_trained].
    errors : predicted minus reference energies of the frames, eV [n_frames].

    Raises
    ------
    SettingsError : the model has no place for different energies of its elements.
    """
    judged = [n for n, frame in enumerate(frames) if frame.weight * frame.energy_weight > 0]
    if not judged:
        return vector
    wanted = [replace(frames[n], energy=-float(errors[n])) for n in judged]
    n_types = layout.model.n_types
    offset = _median_rest(wanted, np.zeros(n_types))
    if offset <= LARGEST_OFFSET:
        return vector
    energies = element_energies(wanted, n_types)
    common = np.full(n_types, np.mean([_per_atom(frame) for frame in wanted]))
    has_place = layout.add_energies(vector, energies) is not None
    if not has_place and _median_rest(wanted, common) <= LARGEST_OFFSET:
        energies = common
    moved = layout.add_energies(vector, energies)
    found = f"half of the energies of the data are more than {offset:.3g} eV/atom off the model to start from"
    if _median_rest(wanted, energies) > LARGEST_OFFSET:
        log.warning(
            "%s, and energies of the elements do not explain that; have data and replay one zero of energy?",
            found,
        )
        return vector
    shifts = ", ".join(f"{e} {energy:.6g}" for e, energy in zip(layout.model.elements, energies))
    if moved is None:
        raise SettingsError(
            f"{found}: another zero of energy, for which the model has no place; take these energies of the "
            f"elements off the labels: {shifts} eV"
        )
    log.warning("%s: another zero of energy; its elements are moved by %s eV", found, shifts)
    return moved


def _per_atom(frame: Frame) -> float:
    assert frame.energy is not None  # required when loaded
    return frame.energy / frame.n_atoms


def _median_rest(frames: Sequence[Frame], energies: np.ndarray) -> float:
    """Return the median of what energies of the elements [n_types], eV, leave of those of structures, eV/atom."""
    return float(np.median([abs(_per_atom(f) - energies[f.types].mean()) for f in frames]))


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


def _sample_with_all_elements(frames: Sequence[Frame], n_types: int, seed: int) -> list[Frame]:
    """Return a random selection with `N_WITH_ELEMENT` structures of every element, or as many as there are.

    Networks that are not centred on the descriptors of their element begin, and stay, saturated.
    """
    sample = sample_frames(frames, N_SAMPLE, seed)
    chosen = set(map(id, sample))
    for t in range(n_types):
        missing = N_WITH_ELEMENT - sum(t in frame.types for frame in sample)
        if missing > 0:
            others = [frame for frame in frames if id(frame) not in chosen and t in frame.types]
            sample += sample_frames(others, missing, seed)
            chosen.update(map(id, sample))
    return sample


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
