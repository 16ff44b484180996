// Evaluation of the short-ranged part of a model: networks, charges and forces from atoms and a neighbour list.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "active_set.h"
#include "model.h"
#include "precision.h"

namespace qnep {

/// Image of an owned atom in a periodic cell: stands at the owner's position + shift . cell.
struct PeriodicImage {
    int owner;
    std::int32_t shift[3];
};

/// Atoms as flat arrays that belong to the caller. The model is evaluated on atoms 0 ... n_owned-1; the others are
/// images or ghosts, at the positions at which their neighbours see them.
struct Atoms {
    int n_owned = 0;
    int n_total = 0;
    const double *positions = nullptr;  // [n_total][3], Å; [n_owned][3] with `images`
    const int *types = nullptr;         // [n_total], index into Model::elements; -1: not part of this model
    // Atoms n_owned ... n_total-1 of a periodic system, placed by whoever needs them: [n_total - n_owned]
    const PeriodicImage *images = nullptr;
    double cell[3][3] = {};  // rows, Å; only for images

    std::array<double, 3> position(std::size_t i) const {
        if (!images || i < static_cast<std::size_t>(n_owned)) {
            const double *x = positions + 3 * i;
            return {x[0], x[1], x[2]};
        }
        const PeriodicImage &image = images[i - n_owned];
        const double *x = positions + 3 * static_cast<std::size_t>(image.owner);
        std::array<double, 3> place;
        for (int c = 0; c < 3; ++c)
            place[c] = x[c] + image.shift[0] * cell[0][c] + image.shift[1] * cell[1][c] + image.shift[2] * cell[2][c];
        return place;
    }
};

/// Full neighbour list of the owned atoms; the neighbours of an atom are sorted by type, which the kernels rely on.
/// May hold pairs beyond the cutoff (a skin).
class NeighborList {
public:
    /// From per-atom arrays as LAMMPS keeps them: `owned[k]` has `counts[k]` neighbours `lists[k][...]`, each and-ed
    /// with `mask`. Neighbours of type -1 are left out. Atoms that are not in `owned` have no neighbours.
    void assign(const Atoms &atoms, int n_types, int n_lists, const int *owned, const int *counts,
                const int *const *lists, int mask);

    /// From pairs (first[p], second[p]), each direction listed, sorted or not. owners: [n_total], the owned atom that
    /// each atom is an image of, so that nothing is booked on images; null: every atom is its own.
    void assign_pairs(const Atoms &atoms, int n_types, std::size_t n_pairs, const int *first, const int *second,
                      const int *owners = nullptr);

    int n_atoms() const { return offsets_.empty() ? 0 : static_cast<int>(offsets_.size()) - 1; }
    /// The atoms to evaluate, near ones together and within a neighbourhood by type, so that a network stays in cache.
    const std::vector<int> &order() const { return order_; }
    const int *neighbors(int i) const { return indices_.data() + offsets_[i]; }
    /// On which atoms the shares of these neighbours are booked, all below n_booked().
    const int *owners(int i) const { return (owners_.empty() ? indices_ : owners_).data() + offsets_[i]; }
    int n_booked() const { return n_booked_; }
    int count(int i) const { return static_cast<int>(offsets_[i + 1] - offsets_[i]); }
    /// Where the neighbours of each type begin: [n_types + 1], relative to `neighbors(i)`. Behind the last one stand
    /// those of type -1.
    const int *segments(int i) const { return segments_.data() + static_cast<std::size_t>(i) * n_segments_; }
    std::size_t memory() const;  // bytes

private:
    void start(const Atoms &atoms, int n_types);
    void resize_indices(std::size_t size);
    void sort_by_type(const Atoms &atoms, int atom);
    void set_order(const Atoms &atoms, std::vector<int> active);
    void book_on(const int *owners, int n_owned);

    std::vector<std::size_t> offsets_;  // [n_owned + 1]
    std::vector<int> indices_;          // with slack, so that vectors may read beyond the end
    std::vector<int> owners_;           // of `indices_`; empty: the indices themselves
    int n_booked_ = 0;
    std::vector<int> segments_;  // [n_owned][n_types + 1]
    std::size_t n_segments_ = 0;
    std::vector<int> order_;
    std::vector<int> buffer_, counts_;  // of sort_by_type
};

/// Where results go. Every pointer may be null (not wanted). All arrays are added to, never set to zero here.
/// n_booked: as the neighbour list says; all atoms, unless it knows the owners of the images. Ghosts must be summed
/// back by the caller. Per-atom virials are row-major (position index slow), booked on the neighbour: W_j -= r_ij (x)
/// G_ij, the form that gives the right heat flux (J. Chem. Phys. 157, 114801 (2022)).
struct ForceOutput {
    double *forces = nullptr;        // [n_booked][3], eV/Å
    double *atom_virials = nullptr;  // [n_booked][9], eV
    double *virial = nullptr;        // [9] row-major, eV, positive trace = compressed; owned atoms' share
};

struct PotentialOptions {
    Precision precision = Precision::double_precision;
    std::string simd = "auto";  // or one of available_simd()
    int n_threads = 1;
    double temperature = 0.0;  // K, for temperature models
};

/// The short-ranged part of a NEP or qNEP model.
///
/// For a model without charges call `compute`. For a qNEP model:
///   1. `network_pass`                       -> site energies and raw charges q^raw of the owned atoms
///   2. the caller makes them neutral        -> q_i = q_i^raw + (Q - sum q^raw)/N
///   3. the caller adds the electrostatics   -> energies, forces at fixed charge, V_i = dE_el/dq_i
///      (mode 1: `real_space_coulomb` is the pair part)
///   4. `force_pass` with V_i - mean(V)      -> all forces that come through the network
/// One object must not be used by two threads at a time.
class Potential {
public:
    Potential(std::shared_ptr<const Model> model, const PotentialOptions &options);
    ~Potential();
    Potential(Potential &&) noexcept;

    const Model &model() const;
    const std::string &simd() const;

    /// Model without charges, both passes fused. site_energies [n_owned], eV (ZBL included); may be null.
    void compute(const Atoms &atoms, const NeighborList &neighbors, double *site_energies, const ForceOutput &output);

    /// site_energies [n_owned] (ZBL included) and raw_charges [n_owned], both set, not added to; either may be null.
    void network_pass(const Atoms &atoms, const NeighborList &neighbors, double *site_energies, double *raw_charges);

    /// Forces of the network energies plus charge_derivatives[i] times the gradient of q_i^raw.
    /// charge_derivatives: [n_owned], V_i - mean(V), in V. Must follow network_pass for the same atoms and neighbours.
    void force_pass(const Atoms &atoms, const NeighborList &neighbors, const double *charge_derivatives,
                    const ForceOutput &output);

    /// Real-space part of the Ewald sum, erfc(alpha d)/d truncated at the radial cutoff, and the self term
    /// (mode 1). charges: [n_booked]; energies and potentials: [n_owned], added to, V_i = dE/dq_i.
    void real_space_coulomb(const Atoms &atoms, const NeighborList &neighbors, const double *charges,
                            double *site_energies, double *potentials, const ForceOutput &output);

    /// Born effective charges without their diagonal part s q_i: adds (s/2) r_ij H_ij to i and subtracts it from j.
    /// born_charges: [n_booked][9], e, row-major (field direction slow, displacement fast).
    /// Must follow network_pass.
    void born_effective_charges(const Atoms &atoms, const NeighborList &neighbors, double *born_charges);

    /// Unscaled descriptors, [n_owned][n_descriptors].
    void descriptors(const Atoms &atoms, const NeighborList &neighbors, double *values);

    /// Grade of each owned atom of the model, [n_owned]; others are left as they are.
    void extrapolation_grades(const Atoms &atoms, const NeighborList &neighbors, const ActiveSet &active_set,
                              double *grades);

    /// Dipole models: [3]. Polarizability models: [9] row-major. Set, not added to.
    void tensor(const Atoms &atoms, const NeighborList &neighbors, double *values);

private:
    class Implementation;
    std::unique_ptr<Implementation> implementation_;
};

/// Instruction sets that this processor can run, slowest first: "sse2", "avx2", "avx512" (or "generic").
std::vector<std::string> available_simd();

}  // namespace qnep
