import numpy as np
import pytest

from qnep.train.radial import orthonormal_transform, radial_functions


def test_functions_by_hand():
    """At half the cutoff f_c = 1/2 and x = -1/2, so f_1 = (1 - 1/2)/4 = 1/8, f_2 = (1 - 1/2)/4 = 1/8."""
    values, _ = radial_functions(np.array([2.0]), 4.0, 3)
    np.testing.assert_allclose(values[0], [0.5, 0.125, 0.125], atol=1e-15)


def test_slopes_are_derivatives():
    distances, step = np.linspace(0.3, 4.9, 9), 1e-5
    plus, _ = radial_functions(distances + step, 5.0, 13)
    minus, _ = radial_functions(distances - step, 5.0, 13)
    _, slopes = radial_functions(distances, 5.0, 13)
    # third derivatives reach 1e5 /Å^3 for k = 12, so h^2/6 of them is below 1e-5
    np.testing.assert_allclose(slopes, (plus - minus) / (2 * step), atol=1e-5)


def test_smooth_at_the_cutoff():
    values, slopes = radial_functions(np.array([5.0]), 5.0, 9)
    np.testing.assert_allclose(values, 0, atol=1e-15)
    np.testing.assert_allclose(slopes, 0, atol=1e-13)


@pytest.mark.parametrize("n_basis", [1, 7, 13])
def test_transform_makes_an_orthonormal_basis(n_basis):
    distances = (np.arange(20000) + 0.5) / 20000
    values, _ = radial_functions(distances, 1.0, n_basis)
    basis = values @ orthonormal_transform(n_basis).T
    gram = (basis * distances[:, None] ** 2).T @ basis / 20000
    np.testing.assert_allclose(gram, np.eye(n_basis), atol=1e-6)  # midpoint rule, 20000 points
