#include "electrostatics.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "constants.h"
#include "electrostatics_cell.h"
#include "electrostatics_kernels.h"
#include "model.h"

template class std::vector<int>;  // see electrostatics_kernels_impl.h

namespace qnep {

ReciprocalCell::ReciprocalCell(const Cell &cell) {
    const auto cross = [](const std::array<double, 3> &u, const std::array<double, 3> &v) {
        return std::array<double, 3>{u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]};
    };
    const auto dot = [](const std::array<double, 3> &u, const std::array<double, 3> &v) {
        return u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
    };
    for (int d = 0; d < 3; ++d) {
        inverse[d] = cross(cell[(d + 1) % 3], cell[(d + 2) % 3]);
        lengths[d] = std::sqrt(dot(cell[d], cell[d]));
    }
    const double determinant = dot(cell[0], inverse[0]);
    volume = std::abs(determinant);
    if (!(volume > 1e-12 * lengths[0] * lengths[1] * lengths[2]) || !std::isfinite(volume)) {
        throw InputError("electrostatics needs a periodic cell with a volume, got " + std::to_string(volume) + " Å^3");
    }
    for (int d = 0; d < 3; ++d) {
        for (int c = 0; c < 3; ++c) {
            inverse[d][c] /= determinant;
            vectors[d][c] = 2.0 * pi * inverse[d][c];
        }
        thicknesses[d] = 1.0 / std::sqrt(dot(inverse[d], inverse[d]));
    }
}

namespace {

// M_1 = 1 on [0, 1); M_p(u) = u/(p-1) M_{p-1}(u) + (p-u)/(p-1) M_{p-1}(u-1), as polynomials of x in u = x + j.
SplineTable<double> make_spline_table(int order) {
    std::vector<std::vector<double>> pieces = {{1.0}};  // [j][power of x]
    for (int p = 2; p <= order; ++p) {
        std::vector<std::vector<double>> next(p, std::vector<double>(p, 0.0));
        for (int j = 0; j < p; ++j) {
            for (int m = 0; m < p - 1; ++m) {
                if (j < p - 1) {
                    next[j][m] += j * pieces[j][m] / (p - 1);
                    next[j][m + 1] += pieces[j][m] / (p - 1);
                }
                if (j > 0) {
                    next[j][m] += (p - j) * pieces[j - 1][m] / (p - 1);
                    next[j][m + 1] -= pieces[j - 1][m] / (p - 1);
                }
            }
        }
        pieces = next;
    }
    SplineTable<double> table{};
    for (int t = 0; t < order; ++t) {
        for (int m = 0; m < order; ++m)
            table.value[m][t] = pieces[order - 1 - t][m];
        for (int m = 1; m < order; ++m)
            table.derivative[m - 1][t] = m * table.value[m][t];
    }
    return table;
}

}  // namespace

template <typename Real>
const SplineTable<Real> &spline_table(int order) {
    static const std::vector<SplineTable<Real>> tables = [] {
        std::vector<SplineTable<Real>> all;
        for (int p = spline_order_min; p <= spline_order_max; ++p) {
            const SplineTable<double> exact = make_spline_table(p);
            SplineTable<Real> table;
            for (int m = 0; m < spline_order_max; ++m) {
                std::copy_n(exact.value[m], 8, table.value[m]);
                std::copy_n(exact.derivative[m], 8, table.derivative[m]);
            }
            all.push_back(table);
        }
        return all;
    }();
    return tables.at(order - spline_order_min);
}

template const SplineTable<double> &spline_table<double>(int order);
template const SplineTable<float> &spline_table<float>(int order);

template <typename Real>
const ElectrostaticsKernels<Real> &electrostatics_kernels() {
#if defined(__x86_64__) || defined(_M_X64)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw")) {
        return electrostatics_avx512::kernels(Real{});
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return electrostatics_avx2::kernels(Real{});
#endif
    return electrostatics_sse2::kernels(Real{});
}

template const ElectrostaticsKernels<double> &electrostatics_kernels<double>();
template const ElectrostaticsKernels<float> &electrostatics_kernels<float>();

void check_reciprocal_arguments(double alpha, int n_threads) {
    if (!(alpha > 0.0) || !std::isfinite(alpha)) {
        throw InputError("Ewald parameter must be positive, got " + std::to_string(alpha) + " 1/Å");
    }
    if (n_threads < 1) throw InputError("number of threads must be positive, got " + std::to_string(n_threads));
}

int next_fast_size(int lower) {
    for (int n = std::max(1, lower);; ++n) {
        int rest = n;
        for (int factor : {2, 3, 5}) {
            while (rest % factor == 0)
                rest /= factor;
        }
        if (rest == 1) return n;
    }
}

bool ewald_is_faster(double alpha, int n, const Cell &cell, double accuracy) {
    constexpr double time_per_atom = 200.0, time_per_atom_and_vector = 1.2;  // ns on one core with AVX2
    constexpr double largest_mesh_time = 4e9;                                // ns; such a mesh takes 4 GB
    const double n_vectors = ewald_vectors(alpha, ReciprocalCell(cell).volume);
    const double time_of_mesh = mesh_time(alpha, n, cell, accuracy);
    // Where both are too large the Ewald sum refuses the cell, and so large a mesh must be asked for by name.
    if (n_vectors > most_ewald_vectors) return time_of_mesh > largest_mesh_time;
    return n * (time_per_atom + time_per_atom_and_vector * n_vectors) < time_of_mesh;
}

std::unique_ptr<ReciprocalSum> make_reciprocal_sum(double alpha, int n, const Cell &cell, double accuracy,
                                                   int n_threads, DomainSum domain_sum, Precision precision) {
    if (ewald_is_faster(alpha, n, cell, accuracy)) {
        return make_ewald(alpha, n_threads, std::move(domain_sum), precision);
    }
    return make_pppm(alpha, accuracy, n_threads, std::move(domain_sum), precision);
}

}  // namespace qnep
