// Inner loops of the reciprocal sums, compiled once per instruction set and chosen at run time.
#pragma once

#include <cstddef>
#include <memory>

#include "electrostatics.h"
#include "fft.h"

namespace qnep {

/// Atoms that the Ewald kernels treat at a time.
inline constexpr int ewald_block = 64;

/// Indices (n1, n2) >= 0 with the range of n3 >= 0 in which at least one of the four vectors (n1, ±n2, ±n3) is wanted.
struct EwaldRow {
    int n1, n2;
    int first, last;     // n3 = first ... last-1
    std::size_t offset;  // of n3 = first in the tables, in units of 8 numbers
};

/// Powers of exp(2 pi i x) of the fractional coordinates of one block of atoms.
template <typename Real>
struct EwaldPhases {
    int n_max[3];
    const double *fractional[3];              // [ewald_block]
    Real *cosines[3], *sines[3];              // [n_max + 1][ewald_block]
    Real *weighted_cosines, *weighted_sines;  // third axis, times n
    const Real *charges;                      // [ewald_block], zero for atoms that do not exist
};

/// Phi and its derivatives with respect to 2 pi times the fractional coordinates.
template <typename Real>
struct EwaldFields {
    alignas(64) Real potential[ewald_block];
    alignas(64) Real gradient[3][ewald_block];
};

/// Atoms sorted for a mesh of the given shape.
struct MeshAtoms {
    const double *scaled = nullptr;   // [n][3], fractional coordinate times mesh size, in [0, n_mesh)
    const double *charges = nullptr;  // [n]
    std::size_t first = 0, last = 0;
};

template <typename Real>
struct ElectrostaticsKernels {
    const char *name;

    /// Fill all powers from the fractional coordinates.
    void (*phase_powers)(EwaldPhases<Real> &);
    /// sums[8 e + 2 c + s] += sum of q A_c B_s, A = {cos cos, cos sin, sin cos, sin sin} of the first two axes,
    /// B = {cos, sin} of the third, e the entry of (n1, n2, n3); phases: [n_blocks].
    void (*structure_sums)(const EwaldRow *rows, std::size_t n_rows, const EwaldPhases<Real> *phases,
                           std::size_t n_blocks, double *sums);
    /// Sum of coefficients times the same functions, with gradient or without.
    void (*fields)(const EwaldRow *rows, std::size_t n_rows, const EwaldPhases<Real> &, const Real *coefficients,
                   EwaldFields<Real> &);
    void (*potentials)(const EwaldRow *rows, std::size_t n_rows, const EwaldPhases<Real> &, const Real *coefficients,
                       EwaldFields<Real> &);

    /// Add the charges to the planes first_plane ... last_plane - 1 of the mesh (first axis) with cardinal B-splines of
    /// the given order (3 ... 8).
    void (*spread)(int order, const MeshShape &, const MeshAtoms &, int first_plane, int last_plane, Real *mesh);
    /// Interpolate: values[i] = {mesh potential, derivatives along the three mesh axes}.
    void (*gather)(int order, const MeshShape &, const MeshAtoms &, const Real *mesh, Real (*values)[4]);

    std::unique_ptr<MeshTransform<Real>> (*make_transform)(const MeshShape &);
};

inline constexpr int spline_order_min = 3;
inline constexpr int spline_order_max = 8;

/// Coefficients of the cardinal B-spline M_p: for 0 <= x < 1, M_p(x + p - 1 - t) = sum_m value[m][t] x^m, t = 0 ...
/// p-1, padded with zeros to 8 columns; and of its derivative. M_p(u - k) is the weight of mesh point k (Essmann et
/// al., J. Chem. Phys. 103, 8577 (1995), doi:10.1063/1.470117, eq. 4.1).
template <typename Real>
struct SplineTable {
    Real value[spline_order_max][8];
    Real derivative[spline_order_max][8];
};
template <typename Real>
const SplineTable<Real> &spline_table(int order);

/// Time of a mesh that reaches `accuracy` for n atoms in this cell, ns on one core with AVX2.
double mesh_time(double alpha, int n, const Cell &cell, double accuracy);

/// Throws InputError unless alpha and the number of threads are positive.
void check_reciprocal_arguments(double alpha, int n_threads);

/// Kernels of the best instruction set of this processor.
template <typename Real>
const ElectrostaticsKernels<Real> &electrostatics_kernels();

// The argument chooses the precision.
#define QNEP_DECLARE_ELECTROSTATICS(isa)                                                                               \
    namespace isa {                                                                                                    \
    const ElectrostaticsKernels<double> &kernels(double);                                                              \
    const ElectrostaticsKernels<float> &kernels(float);                                                                \
    }

QNEP_DECLARE_ELECTROSTATICS(electrostatics_sse2)
QNEP_DECLARE_ELECTROSTATICS(electrostatics_avx2)
QNEP_DECLARE_ELECTROSTATICS(electrostatics_avx512)

#undef QNEP_DECLARE_ELECTROSTATICS

}  // namespace qnep
