"""Angular functions B_abc of a NEP model, their norms and the invariants built from them, all from first principles.

Nothing is tabulated: the polynomials come from Rodrigues' formula in exact fractions, the many-body invariants
from Wigner 3j symbols. The tables of the C++ core are typed in from the literature, so the two check each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

#: (l1, l2, l3) of the cubic invariants by name; the names are those of the flags of the `l_max` line of nep.txt.
CUBIC_INVARIANTS = {
    "222": (2, 2, 2),
    "112": (1, 1, 2),
    "123": (1, 2, 3),
    "233": (2, 3, 3),
    "134": (1, 3, 4),
}
#: All invariants in the order of the file; 1111 is the quartic one, (7/15) q_1^2.
INVARIANTS = ("222", "1111", "112", "123", "233", "134")
QUARTIC_PREFACTOR = 7 / 15


def n_harmonics(l_max: int) -> int:
    """Return the number of functions B_abc with l = 1 ... l_max."""
    return (l_max + 1) ** 2 - 1


def padded_harmonics(l_max: int) -> int:
    """Return the same rounded up to a multiple of 8, the width of the compiled kernel."""
    return -(-n_harmonics(l_max) // 8) * 8


def harmonic_index(degree: int, order: int, is_imaginary: bool = False) -> int:
    """Return the position of B_lm in the vector of angular functions."""
    first = degree * degree - 1
    return first if order == 0 else first + 2 * order - 1 + int(is_imaginary)


@cache
def polar_polynomial(degree: int, order: int) -> tuple[tuple[int, ...], float]:
    """Return Z_lm(z) = (d/dz)^m P_l / a_lm as coprime integers of ascending powers, and a_lm.

    P_l = (d/dz)^l (z^2 - 1)^l / (2^l l!), Rodrigues' formula.
    """
    coefficients = [Fraction(0)] * (2 * degree + 1)
    for power in range(degree + 1):
        coefficients[2 * power] = Fraction(math.comb(degree, power) * (-1) ** (degree - power))
    for _ in range(degree + order):
        coefficients = [power * c for power, c in enumerate(coefficients)][1:]
    norm = 2**degree * math.factorial(degree)
    coefficients = [c / norm for c in coefficients]
    denominator = math.lcm(*(c.denominator for c in coefficients))
    integers = [int(c * denominator) for c in coefficients]
    divisor = math.gcd(*integers)
    return tuple(c // divisor for c in integers), divisor / denominator


@cache
def norm_weights(l_max: int) -> np.ndarray:
    """Return the weights w of q_l = sum_abc w_abc s_abc^2, [padded_harmonics]; zero where padded.

    w = c_l0 for m = 0 and 2 c_lm for both parts of m > 0, with c_lm = (2l+1)/(4 pi) (l-m)!/(l+m)! a_lm^2, so that
    q_l = sum_m |A_lm|^2 with orthonormal spherical harmonics.
    """
    weights = np.zeros(padded_harmonics(l_max))
    for degree in range(1, l_max + 1):
        for order in range(degree + 1):
            weight = _c(degree, order) * (1 if order == 0 else 2)
            for part in range(1 if order == 0 else 2):
                weights[harmonic_index(degree, order, bool(part))] = weight
    return weights


@cache
def degree_selector(l_max: int) -> np.ndarray:
    """Return the matrix [padded_harmonics, l_max] that sums weighted squares of s to q_1 ... q_L."""
    selector = np.zeros((padded_harmonics(l_max), l_max))
    weights = norm_weights(l_max)
    for degree in range(1, l_max + 1):
        block = slice(degree**2 - 1, (degree + 1) ** 2 - 1)
        selector[block, degree - 1] = weights[block]
    return selector


def _c(degree: int, order: int) -> float:
    scale = polar_polynomial(degree, order)[1]
    factorials = math.factorial(degree - order) / math.factorial(degree + order)
    return (2 * degree + 1) / (4 * math.pi) * factorials * scale**2


def evaluate_harmonics(directions: np.ndarray, l_max: int) -> tuple[np.ndarray, np.ndarray]:
    """Return B_abc at unit vectors and its tangential gradient.

    Parameters
    ----------
    directions : [n, 3] unit vectors.

    Returns
    -------
    values : [n, padded_harmonics], zero where padded.
    gradients : [n, 3, padded_harmonics], (1 - u u^T) grad B; divide by the distance for the gradient in r.
    """
    width = padded_harmonics(l_max)
    values = np.zeros((len(directions), width))
    gradients = np.zeros((len(directions), 3, width))
    z = directions[:, 2]
    powers = _planar_powers(directions, l_max)
    for degree in range(1, l_max + 1):
        for order in range(degree + 1):
            polynomial = np.polynomial.Polynomial(polar_polynomial(degree, order)[0])
            polar, slope = polynomial(z), polynomial.deriv()(z)
            for part in range(1 if order == 0 else 2):
                column = harmonic_index(degree, order, bool(part))
                planar, d_x, d_y = _planar_part(powers, order, bool(part))
                values[:, column] = polar * planar
                gradients[:, 0, column] = polar * d_x
                gradients[:, 1, column] = polar * d_y
                gradients[:, 2, column] = slope * planar
    radial = np.einsum("pc,pcm->pm", directions, gradients)
    gradients -= directions[:, :, None] * radial[:, None, :]
    return values, gradients


def _planar_powers(directions: np.ndarray, l_max: int) -> np.ndarray:
    """Return w^m with w = x + i y for m = 0 ... l_max, [l_max + 1, n]."""
    w = directions[:, 0] + 1j * directions[:, 1]
    return w[None, :] ** np.arange(l_max + 1)[:, None]


def _planar_part(
    powers: np.ndarray, order: int, is_imaginary: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Re or Im of w^m and its derivatives with respect to x and y: (w^m)' = m w^(m-1) (dx + i dy)."""
    derivative = order * powers[order - 1] if order > 0 else np.zeros_like(powers[0])
    if is_imaginary:
        return powers[order].imag, derivative.imag, derivative.real
    return powers[order].real, derivative.real, -derivative.imag


def wigner_3j(degrees: tuple[int, int, int], orders: tuple[int, int, int]) -> float:
    """Return the Wigner 3j symbol by Racah's formula (Edmonds, Angular Momentum, eq. 3.7.3 and 3.6.10)."""
    (j1, j2, j3), (m1, m2, m3) = degrees, orders
    is_allowed = m1 + m2 + m3 == 0 and abs(j1 - j2) <= j3 <= j1 + j2
    if not is_allowed or any(abs(m) > j for j, m in zip(degrees, orders, strict=True)):
        return 0.0
    f = math.factorial
    triangle = Fraction(f(j1 + j2 - j3) * f(j1 - j2 + j3) * f(-j1 + j2 + j3), f(j1 + j2 + j3 + 1))
    square = triangle * math.prod(f(j + m) * f(j - m) for j, m in zip(degrees, orders, strict=True))
    total = Fraction(0)
    for k in range(max(0, j2 - j3 - m1, j1 - j3 + m2), min(j1 + j2 - j3, j1 - m1, j2 + m2) + 1):
        total += Fraction(
            (-1) ** k,
            f(k)
            * f(j1 + j2 - j3 - k)
            * f(j1 - m1 - k)
            * f(j2 + m2 - k)
            * f(j3 - j2 + m1 + k)
            * f(j3 - j1 - m2 + k),
        )
    return (-1) ** (j1 - j2 - m3) * float(total) * math.sqrt(square)


@dataclass(frozen=True)
class CubicInvariant:
    """q = (1/3) s . grad q with grad q = (products of two s) @ coefficients.

    Attributes
    ----------
    first, second : [n_products] indices abc of the two factors.
    coefficients : [n_products, padded_harmonics].
    """

    first: np.ndarray
    second: np.ndarray
    coefficients: np.ndarray


@cache
def cubic_invariant(name: str, l_max: int) -> CubicInvariant:
    """Return the invariant q_{l1 l2 l3} of the name; raises ValueError if l_max is too small for it."""
    degrees = CUBIC_INVARIANTS[name]
    if max(degrees) > l_max:
        raise ValueError(
            f"the invariant {name} needs l_max of at least {max(degrees)}, got {l_max}"
        )
    width = padded_harmonics(l_max)
    tensor = np.zeros((width, width, width))
    for m1 in range(-degrees[0], degrees[0] + 1):
        for m2 in range(-degrees[1], degrees[1] + 1):
            orders = (m1, m2, -m1 - m2)
            symbol = wigner_3j(degrees, orders)
            if symbol != 0.0:
                a, b, c = (
                    _spherical(degree, order, width)
                    for degree, order in zip(degrees, orders, strict=True)
                )
                tensor += symbol * np.einsum("a,b,c->abc", a, b, c).real
    by_axis = [np.moveaxis(tensor, axis, 2) for axis in range(3)]
    gradient = np.add.reduce(by_axis)  # [a, b, c]: dq/ds_c = gradient s_a s_b
    gradient = gradient + gradient.transpose(1, 0, 2)
    gradient[np.arange(width), np.arange(width)] /= 2
    first, second = np.nonzero(np.triu(np.abs(gradient).max(axis=2) > 1e-14))
    return CubicInvariant(first, second, gradient[first, second])


def _spherical(degree: int, order: int, width: int) -> np.ndarray:
    """Return the coefficients of A_lm in terms of s_abc (Condon-Shortley phase), complex [width]."""
    row = np.zeros(width, dtype=complex)
    m = abs(order)
    scale = math.sqrt(_c(degree, m))
    row[harmonic_index(degree, m)] = scale
    if m > 0:
        row[harmonic_index(degree, m, True)] = 1j * scale
        row = row * (-1) ** m if order > 0 else row.conj()
    return row
