// A thin layer over the compiler's vector extension: one source for every instruction set.
//
// The files that include this are compiled once per instruction set, each with QNEP_SIMD_NAMESPACE set to a name of
// its own: the same inline function compiled for two instruction sets must not have one name, or the linker would
// keep the wrong one. For the same reason no standard container is used in them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef QNEP_SIMD_NAMESPACE
#error "set QNEP_SIMD_NAMESPACE and QNEP_SIMD_BYTES before including simd.h"
#endif

namespace qnep::QNEP_SIMD_NAMESPACE {

template <typename Real>
struct Simd {
    static constexpr int width = QNEP_SIMD_BYTES / sizeof(Real);
    typedef Real Vector __attribute__((vector_size(QNEP_SIMD_BYTES)));
    // The same for memory without alignment, allowed to alias plain numbers.
    typedef Real Unaligned __attribute__((vector_size(QNEP_SIMD_BYTES), aligned(sizeof(Real)), may_alias));
};

template <typename Real>
using VectorOf = typename Simd<Real>::Vector;

template <typename Real>
inline VectorOf<Real> load(const Real *from) {
    return *reinterpret_cast<const typename Simd<Real>::Unaligned *>(from);
}

template <typename Real>
inline void store(Real *to, VectorOf<Real> value) {
    *reinterpret_cast<typename Simd<Real>::Unaligned *>(to) = value;
}

template <typename Real>
inline VectorOf<Real> broadcast(Real value) {
    return value - VectorOf<Real>{};
}

/// 0, 1, 2 ...
template <typename Real>
inline VectorOf<Real> lane_numbers() {
    VectorOf<Real> lanes{};
    for (int lane = 0; lane < Simd<Real>::width; ++lane)
        lanes[lane] = static_cast<Real>(lane);
    return lanes;
}

/// Sum over the lanes, by halves: a chain of additions one after the other would wait for each.
template <typename Real>
inline Real sum_lanes(VectorOf<Real> value) {
    Real lanes[Simd<Real>::width];
    std::memcpy(lanes, &value, sizeof value);
    for (int half = Simd<Real>::width / 2; half > 0; half /= 2) {
        for (int lane = 0; lane < half; ++lane)
            lanes[lane] += lanes[lane + half];
    }
    return lanes[0];
}

template <typename Vector>
inline Vector square_root(Vector value) {
    Vector root;
    for (unsigned lane = 0; lane < sizeof(Vector) / sizeof(value[0]); ++lane)
        root[lane] = std::sqrt(value[lane]);
    return root;
}

/// Sums over the lanes of four vectors, stored side by side: a transposition costs less than four single sums.
inline void sum_four(VectorOf<double> a, VectorOf<double> b, VectorOf<double> c, VectorOf<double> d, double *to) {
#if QNEP_SIMD_BYTES == 32
    typedef long long Mask __attribute__((vector_size(32)));
    const auto ab = __builtin_shuffle(a, b, Mask{0, 4, 2, 6}) + __builtin_shuffle(a, b, Mask{1, 5, 3, 7});
    const auto cd = __builtin_shuffle(c, d, Mask{0, 4, 2, 6}) + __builtin_shuffle(c, d, Mask{1, 5, 3, 7});
    store<double>(to, __builtin_shuffle(ab, cd, Mask{0, 1, 4, 5}) + __builtin_shuffle(ab, cd, Mask{2, 3, 6, 7}));
#elif QNEP_SIMD_BYTES == 64
    typedef long long Mask __attribute__((vector_size(64)));
    typedef double Half __attribute__((vector_size(32), aligned(8), may_alias));
    const auto ab = __builtin_shuffle(a, b, Mask{0, 8, 2, 10, 4, 12, 6, 14}) +
                    __builtin_shuffle(a, b, Mask{1, 9, 3, 11, 5, 13, 7, 15});
    const auto cd = __builtin_shuffle(c, d, Mask{0, 8, 2, 10, 4, 12, 6, 14}) +
                    __builtin_shuffle(c, d, Mask{1, 9, 3, 11, 5, 13, 7, 15});
    const auto abcd = __builtin_shuffle(ab, cd, Mask{0, 1, 8, 9, 4, 5, 12, 13}) +
                      __builtin_shuffle(ab, cd, Mask{2, 3, 10, 11, 6, 7, 14, 15});
    const Half low = {abcd[0], abcd[1], abcd[2], abcd[3]};
    const Half high = {abcd[4], abcd[5], abcd[6], abcd[7]};
    *reinterpret_cast<Half *>(to) = low + high;
#else
    to[0] = sum_lanes<double>(a);
    to[1] = sum_lanes<double>(b);
    to[2] = sum_lanes<double>(c);
    to[3] = sum_lanes<double>(d);
#endif
}

inline void sum_four(VectorOf<float> a, VectorOf<float> b, VectorOf<float> c, VectorOf<float> d, float *to) {
    // Fold each vector to four lanes, then transpose.
    typedef float Four __attribute__((vector_size(16)));
    typedef float UnalignedFour __attribute__((vector_size(16), aligned(4), may_alias));
    constexpr int n_parts = QNEP_SIMD_BYTES / 16;
    const auto fold = [](VectorOf<float> value) {
        Four parts[n_parts];
        std::memcpy(parts, &value, sizeof value);
        Four sum = parts[0];
        for (int part = 1; part < n_parts; ++part)
            sum += parts[part];
        return sum;
    };
    typedef int Mask __attribute__((vector_size(16)));
    const Four fa = fold(a), fb = fold(b), fc = fold(c), fd = fold(d);
    const Four ab = __builtin_shuffle(fa, fb, Mask{0, 4, 2, 6}) + __builtin_shuffle(fa, fb, Mask{1, 5, 3, 7});
    const Four cd = __builtin_shuffle(fc, fd, Mask{0, 4, 2, 6}) + __builtin_shuffle(fc, fd, Mask{1, 5, 3, 7});
    *reinterpret_cast<UnalignedFour *>(to) =
        __builtin_shuffle(ab, cd, Mask{0, 1, 4, 5}) + __builtin_shuffle(ab, cd, Mask{2, 3, 6, 7});
}

/// Sums over the lanes of eight vectors of eight numbers, side by side.
#if QNEP_SIMD_BYTES == 32
inline VectorOf<float> sum_eight(const VectorOf<float> *v) {
    typedef int Mask __attribute__((vector_size(32)));
    const auto fold = [](VectorOf<float> a, VectorOf<float> b, Mask first, Mask second) {
        return VectorOf<float>(__builtin_shuffle(a, b, first) + __builtin_shuffle(a, b, second));
    };
    constexpr Mask pairs[] = {{0, 8, 1, 9, 4, 12, 5, 13}, {2, 10, 3, 11, 6, 14, 7, 15}};
    constexpr Mask fours[] = {{0, 1, 8, 9, 4, 5, 12, 13}, {2, 3, 10, 11, 6, 7, 14, 15}};
    constexpr Mask halves[] = {{0, 1, 2, 3, 8, 9, 10, 11}, {4, 5, 6, 7, 12, 13, 14, 15}};
    const auto four = [&](const VectorOf<float> *from) {
        return fold(fold(from[0], from[1], pairs[0], pairs[1]), fold(from[2], from[3], pairs[0], pairs[1]), fours[0],
                    fours[1]);
    };
    return fold(four(v), four(v + 4), halves[0], halves[1]);
}
#endif

template <typename Vector>
inline void transpose_by_numbers(Vector *r) {
    constexpr int n = sizeof(Vector) / sizeof(r[0][0]);
    for (int i = 0; i < n; ++i) {
        for (int j = 0; j < i; ++j) {
            const auto number = r[i][j];
            r[i][j] = r[j][i];
            r[j][i] = number;
        }
    }
}

/// Rows to columns of as many vectors as they have numbers.
inline void transpose(VectorOf<double> *r) {
#if QNEP_SIMD_BYTES == 32
    typedef long long Mask __attribute__((vector_size(32)));
    const auto a = __builtin_shuffle(r[0], r[1], Mask{0, 4, 2, 6}), b = __builtin_shuffle(r[0], r[1], Mask{1, 5, 3, 7});
    const auto c = __builtin_shuffle(r[2], r[3], Mask{0, 4, 2, 6}), d = __builtin_shuffle(r[2], r[3], Mask{1, 5, 3, 7});
    r[0] = __builtin_shuffle(a, c, Mask{0, 1, 4, 5});
    r[1] = __builtin_shuffle(b, d, Mask{0, 1, 4, 5});
    r[2] = __builtin_shuffle(a, c, Mask{2, 3, 6, 7});
    r[3] = __builtin_shuffle(b, d, Mask{2, 3, 6, 7});
#else
    transpose_by_numbers(r);
#endif
}

inline void transpose(VectorOf<float> *r) {
#if QNEP_SIMD_BYTES == 32
    typedef int Mask __attribute__((vector_size(32)));
    VectorOf<float> a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = __builtin_shuffle(r[i], r[i + 1], Mask{0, 8, 1, 9, 4, 12, 5, 13});
        a[i + 1] = __builtin_shuffle(r[i], r[i + 1], Mask{2, 10, 3, 11, 6, 14, 7, 15});
    }
    for (int i = 0; i < 8; i += 4) {
        for (int half = 0; half < 2; ++half) {
            b[i + 2 * half] = __builtin_shuffle(a[i + half], a[i + half + 2], Mask{0, 1, 8, 9, 4, 5, 12, 13});
            b[i + 2 * half + 1] = __builtin_shuffle(a[i + half], a[i + half + 2], Mask{2, 3, 10, 11, 6, 7, 14, 15});
        }
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = __builtin_shuffle(b[i], b[i + 4], Mask{0, 1, 2, 3, 8, 9, 10, 11});
        r[i + 4] = __builtin_shuffle(b[i], b[i + 4], Mask{4, 5, 6, 7, 12, 13, 14, 15});
    }
#else
    transpose_by_numbers(r);
#endif
}

/// Sums over the lanes of `count` vectors, stored side by side.
template <int count, typename Real>
inline void sum_each(const VectorOf<Real> *v, Real *to) {
#if QNEP_SIMD_BYTES == 32
    constexpr int eights = sizeof(Real) == sizeof(float) ? count / 8 * 8 : 0;
    if constexpr (eights > 0) {
        for (int i = 0; i < eights; i += 8)
            store(to + i, sum_eight(v + i));
    }
#else
    constexpr int eights = 0;
#endif
    constexpr int fours = (count - eights) / 4 * 4;
    for (int i = eights; i < eights + fours; i += 4)
        sum_four(v[i], v[i + 1], v[i + 2], v[i + 3], to + i);
    constexpr int rest = count - eights - fours;
    for (int i = 0; i < rest; ++i)
        to[count - rest + i] = sum_lanes<Real>(v[count - rest + i]);
}

// exp(x) for x <= 0 by 2^n times a Taylor polynomial on |r| <= ln(2)/2, to the last digit or two.
inline VectorOf<double> exp_negative(VectorOf<double> x) {
    typedef long long Integers __attribute__((vector_size(QNEP_SIMD_BYTES)));
    constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52: leaves round(x) in the low bits
    x = x < -708.0 ? broadcast<double>(-708.0) : x;
    const VectorOf<double> shifted = x * 1.4426950408889634 + magic;
    const VectorOf<double> n = shifted - magic;
    const VectorOf<double> r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    VectorOf<double> p = broadcast<double>(1.0 / 6227020800.0);
    constexpr double inverse_factorials[] = {1.0 / 479001600.0,
                                             1.0 / 39916800.0,
                                             1.0 / 3628800.0,
                                             1.0 / 362880.0,
                                             1.0 / 40320.0,
                                             1.0 / 5040.0,
                                             1.0 / 720.0,
                                             1.0 / 120.0,
                                             1.0 / 24.0,
                                             1.0 / 6.0,
                                             0.5,
                                             1.0,
                                             1.0};
    for (double coefficient : inverse_factorials)
        p = p * r + coefficient;
    return (VectorOf<double>)((Integers)p + ((Integers)shifted << 52));
}

inline VectorOf<float> exp_negative(VectorOf<float> x) {
    typedef int Integers __attribute__((vector_size(QNEP_SIMD_BYTES)));
    constexpr float magic = 12582912.0f;  // 1.5 * 2^23
    x = x < -87.0f ? broadcast<float>(-87.0f) : x;
    const VectorOf<float> shifted = x * 1.44269504f + magic;
    const VectorOf<float> n = shifted - magic;
    const VectorOf<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    VectorOf<float> p = broadcast<float>(1.0f / 5040.0f);
    constexpr float inverse_factorials[] = {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f};
    for (float coefficient : inverse_factorials)
        p = p * r + coefficient;
    return (VectorOf<float>)((Integers)p + ((Integers)shifted << 23));
}

template <typename Real>
inline VectorOf<Real> hyperbolic_tangent(VectorOf<Real> x) {
    const VectorOf<Real> magnitude = x < Real(0) ? -x : x;
    const VectorOf<Real> t = exp_negative(Real(-2) * magnitude);
    const VectorOf<Real> result = (Real(1) - t) / (Real(1) + t);
    return x < Real(0) ? -result : result;
}

// ---- numbers chosen by lane ----

/// Picks one of eight numbers for each lane, where a vector holds eight.
template <typename Real>
struct Picker {
    static constexpr bool exists = false;
};

#if defined(__AVX2__) && QNEP_SIMD_BYTES == 32
template <>
struct Picker<float> {
    static constexpr bool exists = true;

    /// places: which number each lane takes, 0 ... 7.
    explicit Picker(const int *places): lanes(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(places))) {}
    VectorOf<float> operator()(const float *numbers) const {
        return _mm256_permutevar8x32_ps(_mm256_loadu_ps(numbers), lanes);
    }
    static void fill(int *places, int value) {
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(places), _mm256_set1_epi32(value));
    }

    __m256i lanes;
};
#endif

// ---- selection of close neighbours ----

/// How many values behind the last one the functions below may write.
inline constexpr int slack_of_selection = 8;

#if defined(__AVX2__)

// For each mask of four lanes the chosen lanes, moved to the front; the same as 32-bit halves of 64-bit lanes.
struct CompressTables {
    alignas(32) int halves[16][8] = {};
    alignas(16) int lanes[16][4] = {};

    constexpr CompressTables() {
        for (int mask = 0; mask < 16; ++mask) {
            int n = 0;
            for (int lane = 0; lane < 4; ++lane) {
                if (mask & (1 << lane)) {
                    lanes[mask][n] = lane;
                    halves[mask][2 * n] = 2 * lane;
                    halves[mask][2 * n + 1] = 2 * lane + 1;
                    ++n;
                }
            }
        }
    }
};
inline constexpr CompressTables compress_tables;

inline __m256d compress(__m256d value, int mask) {
    const __m256i halves = _mm256_load_si256(reinterpret_cast<const __m256i *>(compress_tables.halves[mask]));
    return _mm256_castsi256_pd(_mm256_permutevar8x32_epi32(_mm256_castpd_si256(value), halves));
}

inline __m128 compress(__m128 value, int mask) {
    return _mm_permutevar_ps(value, _mm_load_si128(reinterpret_cast<const __m128i *>(compress_tables.lanes[mask])));
}

inline void store_four(double *to, __m256d value) {
    _mm256_storeu_pd(to, value);
}

inline void store_four(int *to, __m128 bits) {
    _mm_storeu_ps(reinterpret_cast<float *>(to), bits);
}

// Turns four rows of four numbers into columns.
inline void transpose_four(__m256d &a, __m256d &b, __m256d &c, __m256d &d) {
    const __m256d ab_low = _mm256_unpacklo_pd(a, b), ab_high = _mm256_unpackhi_pd(a, b);
    const __m256d cd_low = _mm256_unpacklo_pd(c, d), cd_high = _mm256_unpackhi_pd(c, d);
    a = _mm256_permute2f128_pd(ab_low, cd_low, 0x20);
    b = _mm256_permute2f128_pd(ab_high, cd_high, 0x20);
    c = _mm256_permute2f128_pd(ab_low, cd_low, 0x31);
    d = _mm256_permute2f128_pd(ab_high, cd_high, 0x31);
}

/// Vectors and squared distances from the centre to the neighbours with a square below `limit`, and their labels,
/// packed. Returns how many there are.
inline int select_close(const double *packed_positions, const double *center, const int *neighbors, const int *labels,
                        int count, double limit, int *label, double *x, double *y, double *z, double *square) {
    const __m256d origin = _mm256_loadu_pd(center);
    const __m256d limits = _mm256_set1_pd(limit);
    int n = 0;
    for (int p = 0; p < count; p += 4) {
        const auto row = [&](int which) {
            return _mm256_sub_pd(_mm256_loadu_pd(packed_positions + 4 * static_cast<std::size_t>(which)), origin);
        };
        // Lanes behind the last neighbour repeat the first one and are masked out.
        const int rest = count - p;
        __m256d dx = row(neighbors[p]);
        __m256d dy = row(neighbors[rest > 1 ? p + 1 : p]);
        __m256d dz = row(neighbors[rest > 2 ? p + 2 : p]);
        __m256d unused = row(neighbors[rest > 3 ? p + 3 : p]);
        transpose_four(dx, dy, dz, unused);
        const __m256d d2 = dx * dx + dy * dy + dz * dz;
        int mask = _mm256_movemask_pd(_mm256_cmp_pd(d2, limits, _CMP_LT_OQ));
        if (rest < 4) mask &= (1 << rest) - 1;
        store_four(x + n, compress(dx, mask));
        store_four(y + n, compress(dy, mask));
        store_four(z + n, compress(dz, mask));
        store_four(square + n, compress(d2, mask));
        store_four(label + n, compress(_mm_loadu_ps(reinterpret_cast<const float *>(labels + p)), mask));
        n += __builtin_popcount(mask);
    }
    return n;
}

// For each mask of eight lanes the chosen lanes, moved to the front.
struct CompressOfEight {
    alignas(64) unsigned char lanes[256][8] = {};

    constexpr CompressOfEight() {
        for (int mask = 0; mask < 256; ++mask) {
            int n = 0;
            for (int lane = 0; lane < 8; ++lane) {
                if (mask & (1 << lane)) lanes[mask][n++] = static_cast<unsigned char>(lane);
            }
        }
    }
};
inline constexpr CompressOfEight compress_of_eight;

/// Which lanes a mask of eight keeps, moved to the front.
class LanesOfEight {
public:
#if defined(__AVX512VL__)
    explicit LanesOfEight(int mask): mask_(static_cast<__mmask8>(mask)) {}
    void put(float *to, __m256 value) const {
        _mm256_storeu_ps(to, _mm256_maskz_compress_ps(mask_, value));
    }
    void put(int *to, __m256i value) const {
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm256_maskz_compress_epi32(mask_, value));
    }

private:
    __mmask8 mask_;
#else
    explicit LanesOfEight(int mask):
        lanes_(
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(compress_of_eight.lanes[mask])))) {}
    void put(float *to, __m256 value) const {
        _mm256_storeu_ps(to, _mm256_permutevar8x32_ps(value, lanes_));
    }
    void put(int *to, __m256i value) const {
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm256_permutevar8x32_epi32(value, lanes_));
    }

private:
    __m256i lanes_;
#endif
};

/// As select_close, from positions in whole numbers of a grid, [n][4]: differences are exact, modulo the range of the
/// numbers, and vectors are in units of the grid. `limit` in the same units, squared.
inline int select_close(const std::int32_t *grid, const std::int32_t *center, const int *neighbors, const int *labels,
                        int count, float limit, int *label, float *x, float *y, float *z, float *square) {
    const __m256i origin = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(center)));
    const __m256 limits = _mm256_set1_ps(limit);
    int n = 0;
    for (int p = 0; p < count; p += 8) {
        // The list may be read, but not used, behind its end.
        const auto two_rows = [&](int which) {
            const auto row = [&](int i) {
                return _mm_loadu_si128(
                    reinterpret_cast<const __m128i *>(grid + 4 * static_cast<std::size_t>(neighbors[i])));
            };
            return _mm256_sub_epi32(
                _mm256_inserti128_si256(_mm256_castsi128_si256(row(p + which)), row(p + which + 4), 1), origin);
        };
        const __m256i a = two_rows(0), b = two_rows(1), c = two_rows(2), d = two_rows(3);
        const __m256i ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
        const __m256i cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
        const __m256 dx = _mm256_cvtepi32_ps(_mm256_unpacklo_epi64(ab_low, cd_low));
        const __m256 dy = _mm256_cvtepi32_ps(_mm256_unpackhi_epi64(ab_low, cd_low));
        const __m256 dz = _mm256_cvtepi32_ps(_mm256_unpacklo_epi64(ab_high, cd_high));
        const __m256 d2 = dx * dx + dy * dy + dz * dz;
        int mask = _mm256_movemask_ps(_mm256_cmp_ps(d2, limits, _CMP_LT_OQ));
        if (count - p < 8) mask &= (1 << (count - p)) - 1;
        const LanesOfEight chosen(mask);
        chosen.put(x + n, dx);
        chosen.put(y + n, dy);
        chosen.put(z + n, dz);
        chosen.put(square + n, d2);
        chosen.put(label + n, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(labels + p)));
        n += __builtin_popcount(static_cast<unsigned>(mask));
    }
    return n;
}

/// Which of four numbers are below the limit, as bits.
inline int below(const double *values, double limit) {
    return _mm256_movemask_pd(_mm256_cmp_pd(_mm256_loadu_pd(values), _mm256_set1_pd(limit), _CMP_LT_OQ));
}

inline void compress_store(double *to, const double *from, int mask) {
    _mm256_storeu_pd(to, compress(_mm256_loadu_pd(from), mask));
}

/// Copies the columns whose distance is below `limit` and notes their numbers begin, begin + 1, ... Returns how many.
inline int select_columns(const double *distance, int begin, int stop, double limit, int n_columns,
                          const double *const *from, double *const *to, int *numbers, int n) {
    for (int s = begin; s < stop; s += 4) {
        int mask = below(distance + s, limit);
        if (stop - s < 4) mask &= (1 << (stop - s)) - 1;
        for (int c = 0; c < n_columns; ++c)
            compress_store(to[c] + n, from[c] + s, mask);
        const __m128i own = _mm_add_epi32(_mm_set1_epi32(s), _mm_setr_epi32(0, 1, 2, 3));
        store_four(numbers + n, compress(_mm_castsi128_ps(own), mask));
        n += __builtin_popcount(mask);
    }
    return n;
}

inline int select_columns(const float *distance, int begin, int stop, float limit, int n_columns,
                          const float *const *from, float *const *to, int *numbers, int n) {
    for (int s = begin; s < stop; s += 8) {
        int mask = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(distance + s), _mm256_set1_ps(limit), _CMP_LT_OQ));
        if (stop - s < 8) mask &= (1 << (stop - s)) - 1;
        const LanesOfEight chosen(mask);
        for (int c = 0; c < n_columns; ++c)
            chosen.put(to[c] + n, _mm256_loadu_ps(from[c] + s));
        chosen.put(numbers + n, _mm256_add_epi32(_mm256_set1_epi32(s), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
        n += __builtin_popcount(static_cast<unsigned>(mask));
    }
    return n;
}

inline __m256d load_four(const double *from) {
    return _mm256_loadu_pd(from);
}

inline __m256d load_four(const float *from) {
    return _mm256_cvtps_pd(_mm_loadu_ps(from));
}

/// packed[index] -= (x, y, z) for all entries; adds them up in `sum` too.
template <typename Real>
inline void scatter_subtract(int count, const int *index, const Real *x, const Real *y, const Real *z, double *packed,
                             double *sum) {
    __m256d total = _mm256_setzero_pd();
    for (int s = 0; s < count; s += 4) {
        __m256d rows[4] = {load_four(x + s), load_four(y + s), load_four(z + s), _mm256_setzero_pd()};
        transpose_four(rows[0], rows[1], rows[2], rows[3]);
        const int lanes = count - s < 4 ? count - s : 4;
        for (int lane = 0; lane < lanes; ++lane) {
            double *to = packed + 4 * static_cast<std::size_t>(index[s + lane]);
            _mm256_storeu_pd(to, _mm256_sub_pd(_mm256_loadu_pd(to), rows[lane]));
            total = _mm256_add_pd(total, rows[lane]);
        }
    }
    _mm256_storeu_pd(sum, total);
}

#else

inline int select_close(const double *packed_positions, const double *center, const int *neighbors, const int *labels,
                        int count, double limit, int *label, double *x, double *y, double *z, double *square) {
    int n = 0;
    for (int p = 0; p < count; ++p) {
        const double *position = packed_positions + 4 * static_cast<std::size_t>(neighbors[p]);
        const double dx = position[0] - center[0], dy = position[1] - center[1], dz = position[2] - center[2];
        const double d2 = dx * dx + dy * dy + dz * dz;
        label[n] = labels[p];
        x[n] = dx;
        y[n] = dy;
        z[n] = dz;
        square[n] = d2;
        n += d2 < limit;
    }
    return n;
}

inline int select_close(const std::int32_t *grid, const std::int32_t *center, const int *neighbors, const int *labels,
                        int count, float limit, int *label, float *x, float *y, float *z, float *square) {
    const auto difference = [](std::int32_t a, std::int32_t b) {
        return static_cast<float>(
            static_cast<std::int32_t>(static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b)));
    };
    int n = 0;
    for (int p = 0; p < count; ++p) {
        const std::int32_t *row = grid + 4 * static_cast<std::size_t>(neighbors[p]);
        const float dx = difference(row[0], center[0]);
        const float dy = difference(row[1], center[1]);
        const float dz = difference(row[2], center[2]);
        const float d2 = dx * dx + dy * dy + dz * dz;
        label[n] = labels[p];
        x[n] = dx;
        y[n] = dy;
        z[n] = dz;
        square[n] = d2;
        n += d2 < limit;
    }
    return n;
}

template <typename Real>
inline int select_columns(const Real *distance, int begin, int stop, Real limit, int n_columns, const Real *const *from,
                          Real *const *to, int *numbers, int n) {
    for (int s = begin; s < stop; ++s) {
        for (int c = 0; c < n_columns; ++c)
            to[c][n] = from[c][s];
        numbers[n] = s;
        n += distance[s] < limit;
    }
    return n;
}

template <typename Real>
inline void scatter_subtract(int count, const int *index, const Real *x, const Real *y, const Real *z, double *packed,
                             double *sum) {
    double total[3] = {};
    for (int s = 0; s < count; ++s) {
        const double vector[3] = {x[s], y[s], z[s]};
        double *to = packed + 4 * static_cast<std::size_t>(index[s]);
        for (int c = 0; c < 3; ++c) {
            to[c] -= vector[c];
            total[c] += vector[c];
        }
    }
    for (int c = 0; c < 3; ++c)
        sum[c] = total[c];
}

#endif

}  // namespace qnep::QNEP_SIMD_NAMESPACE
