import itertools

import numpy as np
import pytest

from qnep.train.harmonics import (
    cubic_invariant,
    degree_selector,
    evaluate_harmonics,
    norm_weights,
    polar_polynomial,
    wigner_3j,
)


def random_directions(n: int) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1)[:, None]


def test_polynomials_are_those_of_the_model_file_definition():
    """Figures of the public definition: 35 z^4 - 30 z^2 + 3 for l = 4, 7 z^3 - 3 z for m = 1."""
    assert polar_polynomial(4, 0)[0] == (3, 0, -30, 0, 35)
    assert polar_polynomial(4, 1)[0] == (0, -3, 0, 7)
    assert norm_weights(8)[63] == pytest.approx(8.2569397966376367e-05, rel=1e-12)  # c_80
    assert norm_weights(5)[27] == pytest.approx(2 * 2.8722493636115489, rel=1e-12)  # 2 c_52


@pytest.mark.parametrize("l_max", [1, 4, 8])
def test_norms_obey_the_addition_theorem(l_max):
    """For one neighbour q_l = (2l + 1)/(4 pi), whatever its direction."""
    values, _ = evaluate_harmonics(random_directions(7), l_max)
    expected = (2 * np.arange(1, l_max + 1) + 1) / (4 * np.pi)
    np.testing.assert_allclose(
        values**2 @ degree_selector(l_max), np.tile(expected, (7, 1)), rtol=1e-12
    )


def test_gradients_are_tangential_derivatives():
    directions, step = random_directions(5), 1e-6
    tangent = np.cross(directions, [0.3, -0.5, 0.8])
    shifted = []
    for sign in (1, -1):
        moved = directions + sign * step * tangent
        shifted.append(evaluate_harmonics(moved / np.linalg.norm(moved, axis=1)[:, None], 8)[0])
    _, gradients = evaluate_harmonics(directions, 8)
    numerical = (shifted[0] - shifted[1]) / (2 * step)
    # central differences with h = 1e-6 of numbers up to 1e4: cancellation leaves about 1e-6
    np.testing.assert_allclose(
        np.einsum("pcm,pc->pm", gradients, tangent), numerical, rtol=1e-6, atol=1e-5
    )


def test_wigner_symbols_by_hand():
    """(1 1 2; 0 0 0) = sqrt(2/15), (2 2 2; 0 0 0) = -sqrt(2/35), and the sum of squares over m is 1."""
    assert wigner_3j((1, 1, 2), (0, 0, 0)) == pytest.approx(np.sqrt(2 / 15))
    assert wigner_3j((2, 2, 2), (0, 0, 0)) == pytest.approx(-np.sqrt(2 / 35))
    total = sum(
        wigner_3j((2, 3, 3), (a, b, -a - b)) ** 2
        for a, b in itertools.product(range(-2, 3), range(-3, 4))
    )
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["222", "112", "123", "233", "134"])
def test_invariants_do_not_change_under_rotation(name):
    directions = random_directions(6)
    weights = np.random.default_rng(2).normal(size=6)
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))

    def invariant(vectors: np.ndarray) -> float:
        sums = weights @ evaluate_harmonics(vectors, 4)[0]
        terms = cubic_invariant(name, 4)
        return (sums[terms.first] * sums[terms.second]) @ terms.coefficients @ sums / 3

    assert invariant(directions @ rotation.T) == pytest.approx(invariant(directions), rel=1e-10)
    assert abs(invariant(directions)) > 1e-6


def test_coefficient_of_222_by_hand():
    """The term s_20^3 of q_222 is (2 2 2; 0 0 0) c_20^(3/2) = -0.007499480826664."""
    terms = cubic_invariant("222", 4)
    pure = np.flatnonzero((terms.first == 3) & (terms.second == 3))[0]
    assert terms.coefficients[pure, 3] / 3 == pytest.approx(-0.007499480826664, rel=1e-12)


def test_invariants_need_their_degrees():
    with pytest.raises(ValueError, match="134 needs l_max of at least 4, got 3"):
        cubic_invariant("134", 3)
