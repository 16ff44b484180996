"""Radial functions of a NEP model and the better conditioned basis that the trainer uses for them."""

from __future__ import annotations

from functools import cache

import numpy as np


def radial_functions(
    distances: np.ndarray, cutoffs: np.ndarray | float, n_basis: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return f_k(d) = (T_k(x) + 1) f_c(d) / 2 and df_k/dd for k = 0 ... n_basis - 1.

    x = 2 (d/R - 1)^2 - 1, f_c = (cos(pi d/R) + 1) / 2, T_k Chebyshev polynomials of the first kind.
    J. Chem. Phys. 157, 114801 (2022), doi:10.1063/5.0106617, eq. 9-11.

    Parameters
    ----------
    distances : [n], Å, below the cutoffs.
    cutoffs : [n] or one number, Å.

    Returns
    -------
    values : [n, n_basis]
    slopes : [n, n_basis], 1/Å
    """
    ratio = distances / cutoffs
    smooth = 0.5 * np.cos(np.pi * ratio) + 0.5
    smooth_slope = -0.5 * np.pi / cutoffs * np.sin(np.pi * ratio)
    x = 2 * (ratio - 1) ** 2 - 1
    x_slope = 4 * (ratio - 1) / cutoffs
    polynomials = np.ones((n_basis, len(distances)))
    derivatives = np.zeros_like(polynomials)
    for k in range(1, n_basis):
        if k == 1:
            polynomials[1], derivatives[1] = x, 1.0
            continue
        polynomials[k] = 2 * x * polynomials[k - 1] - polynomials[k - 2]
        derivatives[k] = 2 * (polynomials[k - 1] + x * derivatives[k - 1]) - derivatives[k - 2]
    polynomials[0] = 1.0
    values = 0.5 * (polynomials + 1) * smooth
    slopes = 0.5 * derivatives * x_slope * smooth + 0.5 * (polynomials + 1) * smooth_slope
    return values.T, slopes.T


@cache
def orthonormal_transform(n_basis: int) -> np.ndarray:
    """Return the lower triangular M whose functions phi = M f are orthonormal over a sphere.

    The f_k of a model file are all positive and nearly parallel, so a gradient step along one coefficient moves all of
    them. The trainer works with phi; with coefficients a of phi those of the file are c = a M, exactly.
    Scalar product: the integral of f_k f_l (d/R)^2 over d/R = 0 ... 1.
    """
    nodes, weights = np.polynomial.legendre.leggauss(100)
    distances = 0.5 * (nodes + 1)
    values, _ = radial_functions(distances, 1.0, n_basis)
    gram = (values * (0.5 * weights * distances**2)[:, None]).T @ values
    return np.linalg.inv(np.linalg.cholesky(gram))
