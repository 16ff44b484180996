// What evaluates one atom at a time, compiled once per instruction set and precision.
#pragma once

#include <cstddef>
#include <cstdint>

#include "potential.h"

namespace qnep {

/// Screened nuclear repulsion of a pair of types: sum of amplitude exp(-decay d) times a switching function over d.
struct ZblPair {
    double inner, outer;  // Å, where switching begins and ends
    double amplitude[4];  // eV Å, with the Coulomb constant and both nuclear charges
    double decay[4];      // 1/Å
};

/// Columns of the tables by neighbour type.
inline constexpr int most_types_by_lane = 8;

/// A model rearranged for the kernels; plain pointers into arrays that PreparedModel owns.
///
/// Basis functions f_k = (T_k + 1)/2 f_c are replaced by tau_k = T_k f_c: the coefficients of k > 0 are halved and
/// the other halves go to k = 0. The scaling of the descriptors is part of the first layer's weights.
/// Strides are multiples of 16, so that vectors of every width may read a whole row.
template <typename Real>
struct KernelModel {
    int n_types, n_radial, n_angular, k_radial, k_angular, n_descriptors, n_neurons, l_max;
    bool invariants[n_invariants];
    bool has_charges;
    int radial_n_stride, radial_k_stride, angular_n_stride, neuron_stride;
    const Real *radial_kn;        // [t_i][t_j][k][n]: c'
    const Real *radial_nk;        // [t_i][t_j][n][k]: the same
    const Real *radial_slope_nk;  // [t_i][t_j][n][k]: coefficients of the derivative of sum_k c'[n][k] T_k
    const Real *angular_kn;       // [t_i][t_j][k][n]
    // For vectors of neighbours of different types; null in double precision and for one type or more than eight.
    const Real *angular_kn_by_type;       // [t_i][k][n][8: t_j]
    const Real *inverse_angular_cutoffs;  // [t_i][8: t_j], 1/Å
    const Real *weights;                  // [set][t][descriptor, multiple of 4][neuron]
    const Real *biases;                   // [set][t][neuron]
    const Real *outputs;                  // [set][t][2][neuron]: energy and charge weights
    const double *energy_shift;           // [set][t]: -b1 (- beta_t)
    const double *radial_cutoffs;         // [t_i][t_j], Å
    const double *angular_cutoffs;        // [t_i][t_j], Å
    const double *list_cutoffs;           // [t_i][t_j], Å: the larger of the two
    const ZblPair *zbl;                   // [t_i][t_j]; null without ZBL
    double temperature;                   // last descriptor of temperature models
    bool has_temperature;
    std::size_t network_stride;  // of `weights`, per type
    int set_stride;              // networks per set
};

/// Positions as the kernels read them, four numbers an atom (the last unused), so that one vector load brings one.
/// Kernels in double precision take Å. Those in single precision take multiples of `grid_spacing` modulo 2^32: vectors
/// between atoms less than 512 Å apart are then exact to half a spacing, 1.2e-7 Å, however large the system; a
/// single-precision distance of 4 Å is rounded by twice that, and subtracting single-precision positions would lose
/// more.
struct PackedPositions {
    const double *exact;
    const std::int32_t *grid;
};
inline constexpr double grid_spacing = 0x1p-22;  // Å

/// Evaluation of one atom: gather, then describe, infer and gradient in this order. Holds the scratch memory of one
/// thread.
class AtomKernel {
public:
    virtual ~AtomKernel();

    /// Collect the neighbours within the cutoffs. neighbors, owners and segments: as from NeighborList. Returns -1, or
    /// the index (of the owner) of an atom at the same place.
    virtual int gather(const PackedPositions &positions, const int *neighbors, const int *owners, const int *segments,
                       int atom, int type) = 0;

    /// Basis functions and descriptor of the gathered atom.
    virtual void describe() = 0;

    /// Network of the set (1: scalar part of a polarizability model). The derivatives stay inside.
    virtual void infer(int set, double &energy, double &charge) = 0;

    /// ZBL energy of the atom, half of each of its pairs.
    virtual double repulsion_energy() const = 0;

    /// Angular sums and derivatives of the network, so that a second pass need not repeat describe and infer.
    virtual void save_state(void *state) const = 0;

    /// The counterpart after `gather`: basis functions anew, the rest from the state.
    virtual void restore_state(const void *state) = 0;
    virtual std::size_t state_bytes() const = 0;

    /// G_ij = energy_weight dU_i/dr_ij + charge_weight dq_i/dr_ij (+ ZBL) for all neighbours, kept inside.
    virtual void gradient(double energy_weight, double charge_weight, bool with_repulsion) = 0;

    // What is done with the gradient; j is the neighbour's owner.
    virtual void add_forces(double *packed_forces) const = 0;       // F_i += G, F_j -= G; [n_booked][4]
    virtual void add_virial(double *virial) const = 0;              // W -= r (x) G
    virtual void add_atom_virials(double *atom_virials) const = 0;  // the same, booked on j
    virtual void add_born_charges(double scale, double *born_charges) const = 0;
    virtual void add_dipole(double *dipole) const = 0;  // -= d^2 G

    /// Real-space Coulomb sum of the gathered atom; replaces the gradient by that of this energy.
    virtual void coulomb(double alpha, const double *charges, double &energy, double &potential) = 0;

    virtual void copy_descriptors(double *values) const = 0;
};

#define QNEP_DECLARE_KERNELS(isa)                                                                                      \
    namespace isa {                                                                                                    \
    AtomKernel *make_atom_kernel(const KernelModel<double> &model);                                                    \
    AtomKernel *make_atom_kernel(const KernelModel<float> &model);                                                     \
    }

QNEP_DECLARE_KERNELS(sse2)
QNEP_DECLARE_KERNELS(avx2)
QNEP_DECLARE_KERNELS(avx512)

#undef QNEP_DECLARE_KERNELS

}  // namespace qnep
