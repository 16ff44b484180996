"""Weights and shapes of the loss, each against sums written out by hand in NumPy."""

import dataclasses

import numpy as np
import pytest
import torch

from qnep import random_model
from qnep.train.batch import Batch, BatchBuilder
from qnep.train.forward import Prediction
from qnep.train.loss import Loss, LossWeights

N_ATOMS = 12


@pytest.fixture
def batch(make_frames) -> Batch:
    model = random_model("O H", radial_cutoff=4.0, angular_cutoff=3.0, n_neurons=3, seed=1)
    return BatchBuilder(model, "double").build(make_frames(2), [0, 1])


@pytest.fixture
def prediction(batch) -> Prediction:
    """Errors of known size: the labels plus random numbers."""
    random = torch.Generator().manual_seed(2)

    def off(labels: torch.Tensor, size: float) -> torch.Tensor:
        return labels + size * torch.randn(labels.shape, generator=random, dtype=labels.dtype)

    labels = batch.labels
    return Prediction(off(labels.energies, 2.0), off(labels.forces, 0.5), off(labels.virials, 3.0))


def force_errors(prediction: Prediction, batch: Batch) -> np.ndarray:
    return (prediction.forces - batch.labels.forces).numpy()


def test_weight_of_an_element(batch, prediction):
    """A factor w of an element multiplies its errors, so their squares by w²."""
    found = Loss(LossWeights(elements=(3.0, 0.5))).sums(prediction, batch)
    factors = np.array([3.0, 0.5])[batch.type_of_atom.numpy()]
    expected = ((factors[:, None] * force_errors(prediction, batch)) ** 2).sum()
    assert float(found.squares["force"]) == pytest.approx(expected, rel=1e-12)
    assert found.counts["force"] == 3 * batch.n_atoms


def test_element_of_weight_zero_does_not_count(batch, prediction):
    loss = Loss(LossWeights(elements=(0.0, 1.0)))
    found = loss.sums(prediction, batch)
    is_hydrogen = batch.type_of_atom.numpy() == 1
    errors = force_errors(prediction, batch)[is_hydrogen]
    assert found.counts["force"] == errors.size == loss.counts(batch, False)["force"]
    assert found.root_mean_squares()["force"] == pytest.approx(np.sqrt((errors**2).mean()))


def test_force_delta_weakens_large_forces(batch, prediction):
    """GPUMD: the squared error of an atom counts delta / (delta + |F|), |F| the reference."""
    found = Loss(LossWeights(force_delta=0.7)).sums(prediction, batch)
    sizes = np.linalg.norm(batch.labels.forces.numpy(), axis=1)
    weights = 0.7 / (0.7 + sizes)
    expected = (weights[:, None] * force_errors(prediction, batch) ** 2).sum()
    assert float(found.squares["force"]) == pytest.approx(expected, rel=1e-12)


def test_shear_weight_is_for_off_diagonal_components(batch, prediction):
    found = Loss(LossWeights(shear=0.3)).sums(prediction, batch)
    errors = (prediction.virials - batch.labels.virials).numpy().reshape(-1, 3, 3) / N_ATOMS
    factors = 0.3 + 0.7 * np.eye(3)
    expected = ((factors * errors) ** 2).sum()
    assert float(found.squares["virial"]) == pytest.approx(expected, rel=1e-12)


def test_huber_is_quadratic_below_and_linear_above(batch, prediction):
    """Threshold: so many root mean squares, the scale of the term; value and slope are continuous there."""
    scale, multiple = 0.4, 1.5
    loss = Loss(LossWeights(huber=multiple), {"force": scale})
    found = float(loss.sums(prediction, batch).squares["force"])
    threshold = multiple * scale
    expected = 0.0
    for error in np.abs(force_errors(prediction, batch)).ravel():
        is_small = error < threshold
        expected += error**2 if is_small else 2 * threshold * error - threshold**2
    assert found == pytest.approx(expected, rel=1e-12)
    plain = float(Loss(LossWeights(), {"force": scale}).sums(prediction, batch).squares["force"])
    assert found < 0.98 * plain  # some errors are beyond the threshold


def test_huber_limits_the_pull_of_an_outlier(batch, prediction):
    """The gradient of one force component does not grow beyond the threshold."""
    loss = Loss(LossWeights(huber=1.0), {"force": 0.5})
    slopes = []
    for size in (0.2, 5.0, 50.0):
        forces = batch.labels.forces.clone()
        forces[3, 1] += size
        forces.requires_grad_(True)
        moved = dataclasses.replace(prediction, forces=forces)
        loss.sums(moved, batch).squares["force"].backward()
        slopes.append(float(forces.grad[3, 1]))
    assert slopes == pytest.approx([2 * 0.2, 2 * 0.5, 2 * 0.5], rel=1e-12)


def test_weights_of_structures_multiply_the_errors(make_frames, batch, prediction):
    first, second = make_frames(2)
    model = random_model("O H", radial_cutoff=4.0, angular_cutoff=3.0, n_neurons=3, seed=1)
    heavy = dataclasses.replace(first, weight=2.0)
    weighted = BatchBuilder(model, "double").build([heavy, second], [0, 1])
    found = Loss(LossWeights()).sums(prediction, weighted)
    factors = np.where(batch.frame_of_atom.numpy() == 0, 4.0, 1.0)
    expected = (factors[:, None] * force_errors(prediction, batch) ** 2).sum()
    assert float(found.squares["force"]) == pytest.approx(expected, rel=1e-12)


def test_value_is_the_sum_of_weighted_terms_in_their_units(batch, prediction):
    """Its gradient with respect to the squares is that of sum lambda x RMSE at the current errors."""
    weights = LossWeights(energy=2.0, force=3.0, virial=0.5)
    errors = Loss(weights).sums(prediction, batch)
    rms = errors.root_mean_squares()
    loss = Loss(weights, rms)
    value = float(loss.value(loss.sums(prediction, batch), errors.counts))
    expected = sum(getattr(weights, term) * rms[term] / 2 for term in ("energy", "force", "virial"))
    assert value == pytest.approx(expected, rel=1e-12)


def test_plain_errors_have_no_weights(make_frames, batch, prediction):
    """Whatever the loss makes of them: root mean squares of all errors with a reference, of frames that were drawn."""
    first, second = make_frames(2)
    frames = [dataclasses.replace(first, weight=2.0, energy_weight=5.0), second]
    model = random_model("O H", radial_cutoff=4.0, angular_cutoff=3.0, n_neurons=3, seed=1)
    weighted = BatchBuilder(model, "double").build(frames, [0, 1])
    loss = Loss(LossWeights(elements=(0.0, 3.0), force_delta=0.1, huber=0.5, shear=0.2))
    errors = loss.sums(prediction, weighted)
    errors.add(loss.sums(prediction, weighted, torch.tensor([3.0, 0.0])).as_numbers())
    found = errors.plain_root_mean_squares()
    for term, sizes in (
        ("force", force_errors(prediction, batch)),
        ("virial", (prediction.virials - batch.labels.virials).numpy() / N_ATOMS),
        ("energy", (prediction.energies - batch.labels.energies).numpy() / N_ATOMS),
    ):
        of_first = batch.frame_of_atom.numpy() == 0 if term == "force" else [True, False]
        both = np.concatenate([sizes, sizes[of_first]])
        assert found[term] == pytest.approx(np.sqrt(np.mean(both**2)), rel=1e-12)
        assert errors.root_mean_squares()[term] != pytest.approx(found[term], rel=0.05)
