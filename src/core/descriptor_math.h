// The formulas of the NEP descriptor, written once for plain numbers, SIMD vectors and device code.
//
// Sources: Fan et al., J. Chem. Phys. 157, 114801 (2022), doi:10.1063/5.0106617 (descriptor, NEP4);
// Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007) (cutoff function); Ziegler, Biersack and Littmark, The
// Stopping and Range of Ions in Matter (1985) (repulsion).
#pragma once

#include <cmath>
#include <utility>

#include "constants.h"

#ifndef QNEP_INLINE
#define QNEP_INLINE inline __attribute__((always_inline))
#endif

namespace qnep {

// ---- radial functions ----

/// f_c(u) = (1 + cos(pi u))/2 and df_c/du for u = d/R in [0, 1]; both vanish at u = 1.
/// With delta = pi/2 (u - 1/2): f_c = (cos delta - sin delta)^2/2 and sin(pi u) = cos^2 delta - sin^2 delta. Taylor
/// polynomials on |delta| <= pi/4, below 1e-16.
template <typename Real, typename Value>
QNEP_INLINE void cutoff_function(Value u, Value &value, Value &derivative) {
    const Value delta = u * Real(1.5707963267948966) - Real(0.7853981633974483);
    const Value square = delta * delta;
    Value sine = square * Real(1.0 / 355687428096000.0) - Real(1.0 / 1307674368000.0);
    sine = sine * square + Real(1.0 / 6227020800.0);
    sine = sine * square - Real(1.0 / 39916800.0);
    sine = sine * square + Real(1.0 / 362880.0);
    sine = sine * square - Real(1.0 / 5040.0);
    sine = sine * square + Real(1.0 / 120.0);
    sine = sine * square - Real(1.0 / 6.0);
    sine = sine * square * delta + delta;
    Value cosine = square * Real(1.0 / 20922789888000.0) - Real(1.0 / 87178291200.0);
    cosine = cosine * square + Real(1.0 / 479001600.0);
    cosine = cosine * square - Real(1.0 / 3628800.0);
    cosine = cosine * square + Real(1.0 / 40320.0);
    cosine = cosine * square - Real(1.0 / 720.0);
    cosine = cosine * square + Real(1.0 / 24.0);
    cosine = cosine * square - Real(0.5);
    cosine = cosine * square + Real(1.0);
    const Value difference = cosine - sine;
    value = Real(0.5) * difference * difference;
    derivative = Real(-1.5707963267948966) * difference * (cosine + sine);
}

/// Argument of the Chebyshev polynomials, x = 2 (u - 1)^2 - 1, and dx/du.
template <typename Real, typename Value>
QNEP_INLINE void chebyshev_argument(Value u, Value &x, Value &derivative) {
    const Value v = u - Real(1);
    x = Real(2) * v * v - Real(1);
    derivative = Real(4) * v;
}

// ---- angular functions ----

/// Largest l and the number of real functions B_lm up to it.
constexpr int n_harmonics(int l_max) {
    return (l_max + 1) * (l_max + 1) - 1;
}

/// Index of B_lm: m = 0 first, then (Re, Im) of m = 1 ... l.
constexpr int harmonic_index(int l, int m, bool imaginary) {
    return l * l - 1 + (m == 0 ? 0 : 2 * m - 1 + (imaginary ? 1 : 0));
}

/// Coefficients of Z_lm(z), the m-th derivative of the Legendre polynomial P_l over its greatest common divisor, by
/// ascending powers of z: z_polynomial[l][m][p].
inline constexpr double z_polynomial[9][9][9] = {
    {},
    {{0, 1}, {1}},
    {{-1, 0, 3}, {0, 1}, {1}},
    {{0, -3, 0, 5}, {-1, 0, 5}, {0, 1}, {1}},
    {{3, 0, -30, 0, 35}, {0, -3, 0, 7}, {-1, 0, 7}, {0, 1}, {1}},
    {{0, 15, 0, -70, 0, 63}, {1, 0, -14, 0, 21}, {0, -1, 0, 3}, {-1, 0, 9}, {0, 1}, {1}},
    {{-5, 0, 105, 0, -315, 0, 231},
     {0, 5, 0, -30, 0, 33},
     {1, 0, -18, 0, 33},
     {0, -3, 0, 11},
     {-1, 0, 11},
     {0, 1},
     {1}},
    {{0, -35, 0, 315, 0, -693, 0, 429},
     {-5, 0, 135, 0, -495, 0, 429},
     {0, 15, 0, -110, 0, 143},
     {3, 0, -66, 0, 143},
     {0, -3, 0, 13},
     {-1, 0, 13},
     {0, 1},
     {1}},
    {{35, 0, -1260, 0, 6930, 0, -12012, 0, 6435},
     {0, -35, 0, 385, 0, -1001, 0, 715},
     {-1, 0, 33, 0, -143, 0, 143},
     {0, 3, 0, -26, 0, 39},
     {1, 0, -26, 0, 65},
     {0, -1, 0, 5},
     {-1, 0, 15},
     {0, 1},
     {1}},
};

/// Weights c_lm of q_l = sum_lm c_lm B_lm^2 sums: (2l+1)/(4 pi) (l-m)!/(l+m)! a_lm^2, a_lm the divisor of Z_lm.
/// Given to the 15 digits that fitted models contain.
inline constexpr double harmonic_weight[9][9] = {
    {},
    {0.238732414637843, 0.1193662073189215},
    {0.099471839432434594, 0.59683103659460757, 0.14920775914865189},
    {0.13926057520540844, 0.10444543140405632, 1.0444543140405633, 0.17407571900676055},
    {0.011190581936148891, 0.22381163872297782, 0.11190581936148891, 1.5666814710608448, 0.1958351838826056},
    {0.013677377921959756, 0.10258033441469817, 2.8722493636115489, 0.11967705681714787, 2.1541870227086615,
     0.21541870227086615},
    {0.0040410434769426549, 0.1697238260315915, 0.10607739126974469, 0.42430956507897877, 0.12729286952369362,
     2.80044312952126, 0.23337026079343834},
    {0.0046627424733953716, 0.0040798996642209496, 0.024479397985325699, 0.01223969899266285, 0.53854675567716537,
     0.13463668891929137, 3.5005539119015752, 0.25003956513582681},
    {8.2569397966376367e-05, 0.005944996653579099, 0.10403744143763421, 0.76294123720931761, 0.11444118558139763,
     5.9509416502326777, 0.14168908691030185, 4.2506726073090553, 0.26566703795681595},
};

/// Coefficient of power p of Z_lm, or of its derivative with respect to z.
constexpr double z_coefficient(int l, int m, int p, bool derivative) {
    return derivative ? (p + 1 <= l - m ? (p + 1) * z_polynomial[l][m][p + 1] : 0.0) : z_polynomial[l][m][p];
}

namespace detail {

// Horner's rule in z^2, from power p upwards; every second coefficient is zero.
template <int l, int m, int p, bool derivative, typename Real, typename Value>
QNEP_INLINE Value horner(Value z_squared) {
    constexpr Real coefficient = static_cast<Real>(z_coefficient(l, m, p, derivative));
    constexpr int degree = l - m - (derivative ? 1 : 0);
    if constexpr (p + 2 > degree) {
        return Value{} + coefficient;
    } else {
        return horner<l, m, p + 2, derivative, Real>(z_squared) * z_squared + coefficient;
    }
}

}  // namespace detail

/// Z_lm(z) or its derivative.
template <int l, int m, bool derivative, typename Real, typename Value>
QNEP_INLINE Value z_function(Value z, Value z_squared) {
    constexpr int degree = l - m - (derivative ? 1 : 0);
    if constexpr (degree < 0) {
        return Value{};
    } else if constexpr (degree % 2 == 0) {
        return detail::horner<l, m, 0, derivative, Real>(z_squared);
    } else {
        return z * detail::horner<l, m, 1, derivative, Real>(z_squared);
    }
}

/// Real and imaginary part of (x + iy)^m, m = 0 ... L.
template <int L, typename Real, typename Value>
QNEP_INLINE void circular_powers(Value x, Value y, Value (&real)[L + 1], Value (&imaginary)[L + 1]) {
    real[0] = Value{} + Real(1);
    imaginary[0] = Value{};
    for (int m = 1; m <= L; ++m) {
        real[m] = x * real[m - 1] - y * imaginary[m - 1];
        imaginary[m] = x * imaginary[m - 1] + y * real[m - 1];
    }
}

namespace detail {

template <int L, int l, int m, typename Real, typename Value, typename Store>
QNEP_INLINE void harmonics_from(Value z, Value z_squared, const Value (&real)[L + 1], const Value (&imaginary)[L + 1],
                                const Store &put) {
    const Value zonal = z_function<l, m, false, Real>(z, z_squared);
    if constexpr (m == 0) {
        put(harmonic_index(l, 0, false), zonal);
    } else {
        put(harmonic_index(l, m, false), zonal * real[m]);
        put(harmonic_index(l, m, true), zonal * imaginary[m]);
    }
    if constexpr (m < l) {
        harmonics_from<L, l, m + 1, Real>(z, z_squared, real, imaginary, put);
    } else if constexpr (l < L) {
        harmonics_from<L, l + 1, 0, Real>(z, z_squared, real, imaginary, put);
    }
}

// Sums over l >= m of Z_lm (or dZ_lm/dz) times the coefficient that `get` returns for B_lm.
template <int L, int l, int m, bool imaginary, typename Real, typename Value, typename Load>
QNEP_INLINE void zonal_sums(Value z, Value z_squared, const Load &get, Value &sum, Value &derivative_sum) {
    const Value h = get(harmonic_index(l, m, imaginary));
    sum += z_function<l, m, false, Real>(z, z_squared) * h;
    derivative_sum += z_function<l, m, true, Real>(z, z_squared) * h;
    if constexpr (l < L) zonal_sums<L, l + 1, m, imaginary, Real>(z, z_squared, get, sum, derivative_sum);
}

template <int L, int m, typename Real, typename Value, typename Load>
QNEP_INLINE void gradient_from(Value z, Value z_squared, const Value (&real)[L + 1], const Value (&imaginary)[L + 1],
                               const Load &get, Value &gx, Value &gy, Value &gz) {
    Value sum{}, slope{};
    zonal_sums<L, (m == 0 ? 1 : m), m, false, Real>(z, z_squared, get, sum, slope);
    if constexpr (m == 0) {
        gz += slope;
    } else {
        Value sum_i{}, slope_i{};
        zonal_sums<L, m, m, true, Real>(z, z_squared, get, sum_i, slope_i);
        gx += Real(m) * (real[m - 1] * sum + imaginary[m - 1] * sum_i);
        gy += Real(m) * (real[m - 1] * sum_i - imaginary[m - 1] * sum);
        gz += real[m] * slope + imaginary[m] * slope_i;
    }
    if constexpr (m < L) gradient_from<L, m + 1, Real>(z, z_squared, real, imaginary, get, gx, gy, gz);
}

}  // namespace detail

/// All B_lm, l = 1 ... L, of the unit vector (x, y, z), handed to `put(index, value)`.
template <int L, typename Real, typename Value, typename Store>
QNEP_INLINE void harmonics(Value x, Value y, Value z, const Store &put) {
    Value real[L + 1], imaginary[L + 1];
    circular_powers<L, Real>(x, y, real, imaginary);
    detail::harmonics_from<L, 1, 0, Real>(z, Value(z * z), real, imaginary, put);
}

/// sum_lm h_lm grad B_lm with x, y, z taken as free variables; `get(index)` returns h_lm.
template <int L, typename Real, typename Value, typename Load>
QNEP_INLINE void harmonics_gradient(Value x, Value y, Value z, const Load &get, Value &gx, Value &gy, Value &gz) {
    Value real[L + 1], imaginary[L + 1];
    circular_powers<L, Real>(x, y, real, imaginary);
    gx = gy = gz = Value{};
    detail::gradient_from<L, 0, Real>(z, Value(z * z), real, imaginary, get, gx, gy, gz);
}

// ---- invariants of three and more bodies ----

/// A term of a many-body invariant: coefficient times three angular sums.
struct Monomial {
    double coefficient;
    int a, b, c;
};

// Wigner 3j contractions of l1 l2 l3 in the real functions above (spec of the format, appendix A.2).
inline constexpr Monomial monomials_222[] = {
    {-0.007499480826664, 3, 3, 3}, {0.067495327439977, 3, 6, 6},  {0.067495327439977, 3, 7, 7},
    {-0.134990654879954, 3, 4, 4}, {-0.134990654879954, 3, 5, 5}, {-0.404971964639862, 4, 4, 6},
    {0.404971964639862, 5, 5, 6},  {-0.809943929279723, 4, 5, 7},
};
inline constexpr Monomial monomials_112[] = {
    {-0.013746775424423, 1, 1, 3}, {-0.013746775424423, 2, 2, 3}, {0.027493550848847, 0, 0, 3},
    {0.041240326273270, 1, 1, 6},  {-0.041240326273270, 2, 2, 6}, {0.082480652546540, 1, 2, 7},
    {0.164961305093080, 0, 1, 4},  {0.164961305093080, 0, 2, 5},
};
inline constexpr Monomial monomials_123[] = {
    {0.008418146349617, 1, 6, 9},   {0.008418146349617, 1, 7, 10},  {-0.008418146349617, 2, 6, 10},
    {0.008418146349617, 2, 7, 9},   {-0.016836292699234, 0, 3, 8},  {-0.016836292699234, 1, 3, 9},
    {-0.016836292699234, 2, 3, 10}, {0.033672585398469, 1, 4, 8},   {0.033672585398469, 2, 5, 8},
    {-0.042090731748086, 1, 6, 13}, {-0.042090731748086, 1, 7, 14}, {-0.042090731748086, 2, 6, 14},
    {0.042090731748086, 2, 7, 13},  {-0.067345170796937, 0, 4, 9},  {-0.067345170796937, 0, 5, 10},
    {-0.084181463496172, 0, 6, 11}, {-0.084181463496172, 0, 7, 12}, {-0.168362926992344, 1, 4, 11},
    {-0.168362926992344, 1, 5, 12}, {-0.168362926992344, 2, 4, 12}, {0.168362926992344, 2, 5, 11},
};
inline constexpr Monomial monomials_233[] = {
    {0.008572620635186, 3, 8, 8},   {0.009644198214584, 3, 9, 9},    {0.009644198214584, 3, 10, 10},
    {0.019288396429168, 6, 9, 9},   {-0.019288396429168, 6, 10, 10}, {0.025717861905558, 4, 8, 9},
    {0.025717861905558, 5, 8, 10},  {-0.026789439484956, 3, 13, 13}, {-0.026789439484956, 3, 14, 14},
    {-0.032147327381947, 6, 9, 13}, {-0.032147327381947, 6, 10, 14}, {-0.032147327381947, 7, 9, 14},
    {0.032147327381947, 7, 10, 13}, {0.038576792858337, 7, 9, 10},   {-0.128589309527790, 6, 8, 11},
    {-0.128589309527790, 7, 8, 12}, {0.192883964291685, 4, 9, 11},   {0.192883964291685, 4, 10, 12},
    {0.192883964291685, 5, 9, 12},  {-0.192883964291685, 5, 10, 11}, {0.321473273819474, 4, 11, 13},
    {0.321473273819474, 4, 12, 14}, {0.321473273819474, 5, 11, 14},  {-0.321473273819474, 5, 12, 13},
};
inline constexpr Monomial monomials_134[] = {
    {-0.003645164295772, 1, 9, 15},  {-0.003645164295772, 2, 10, 15}, {0.004860219061029, 0, 8, 15},
    {-0.006075273826286, 1, 13, 18}, {-0.006075273826286, 1, 14, 19}, {0.006075273826286, 2, 13, 19},
    {-0.006075273826286, 2, 14, 18}, {0.018225821478859, 1, 9, 18},   {0.018225821478859, 1, 10, 19},
    {0.018225821478859, 2, 9, 19},   {-0.018225821478859, 2, 10, 18}, {0.024301095305146, 1, 8, 16},
    {0.024301095305146, 2, 8, 17},   {0.036451642957719, 0, 9, 16},   {0.036451642957719, 0, 10, 17},
    {-0.036451642957719, 1, 11, 16}, {-0.036451642957719, 1, 12, 17}, {0.036451642957719, 2, 11, 17},
    {-0.036451642957719, 2, 12, 16}, {0.042526916784005, 1, 13, 22},  {0.042526916784005, 1, 14, 23},
    {0.042526916784005, 2, 13, 23},  {-0.042526916784005, 2, 14, 22}, {0.072903285915437, 0, 11, 18},
    {0.072903285915437, 0, 12, 19},  {0.085053833568010, 0, 13, 20},  {0.085053833568010, 0, 14, 21},
    {0.255161500704030, 1, 11, 20},  {0.255161500704030, 1, 12, 21},  {0.255161500704030, 2, 11, 21},
    {-0.255161500704030, 2, 12, 20},
};

/// q_1111 = coefficient_1111 (s_0^2 + s_1^2 + s_2^2)^2, that is 7/15 q_1^2.
inline constexpr double coefficient_1111 = 0.026596810706114;

/// Value of a sum of monomials; `get(index)` returns an angular sum.
template <typename Real, typename Value, int n, typename Load>
QNEP_INLINE Value invariant(const Monomial (&monomials)[n], const Load &get) {
    Value sum{};
    for (int i = 0; i < n; ++i) {
        const Monomial &term = monomials[i];
        sum += static_cast<Real>(term.coefficient) * get(term.a) * get(term.b) * get(term.c);
    }
    return sum;
}

/// Adds weight times the derivative with respect to each angular sum through `add(index, value)`.
template <typename Real, typename Value, int n, typename Load, typename Add>
QNEP_INLINE void invariant_derivative(const Monomial (&monomials)[n], const Load &get, Value weight, const Add &add) {
    for (int i = 0; i < n; ++i) {
        const Monomial &term = monomials[i];
        const Value scale = static_cast<Real>(term.coefficient) * weight;
        add(term.a, scale * get(term.b) * get(term.c));
        add(term.b, scale * get(term.a) * get(term.c));
        add(term.c, scale * get(term.a) * get(term.b));
    }
}

/// Energy of a pair by ZBL and its derivative with respect to the distance, eV and eV/Å; `Pair` is ZblPair.
template <typename Pair>
QNEP_INLINE void zbl_repulsion(const Pair &pair, double d, double &energy, double &slope) {
    double sum = 0.0, sum_slope = 0.0;
    for (int i = 0; i < 4; ++i) {
        const double term = pair.amplitude[i] * std::exp(-pair.decay[i] * d);
        sum += term;
        sum_slope -= pair.decay[i] * term;
    }
    double switching = 1.0, switching_slope = 0.0;
    if (d > pair.inner) {
        const double rate = pi / (pair.outer - pair.inner);
        const double phase = rate * (d - pair.inner);
        switching = 0.5 * std::cos(phase) + 0.5;
        switching_slope = -0.5 * rate * std::sin(phase);
    }
    energy = sum * switching / d;
    slope = (sum_slope * switching + sum * switching_slope - energy) / d;
}

}  // namespace qnep
