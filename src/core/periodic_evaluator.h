// A whole system on one machine: neighbours by periodic shifts, short-ranged model, charges and electrostatics.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "electrostatics.h"
#include "potential.h"

namespace qnep {

struct EvaluationOptions {
    double total_charge = 0.0;    // e, of the cell
    std::string kspace = "auto";  // "ewald", "pppm" or "auto": the faster one
    double accuracy = 1e-5;       // of PPPM, see make_pppm
    bool mean_correction = true;  // chain rule through the neutrality shift; off only to compare with old files
    bool wants_forces = true;
    bool wants_atom_virials = false;
    bool wants_born_charges = false;
    /// Called with the charges [n]; adds to the potentials [n], V, the derivative with respect to the charges of an
    /// energy that is summed elsewhere (the charges that electrodes induce). Its chain rule then enters the forces.
    std::function<void(const double *charges, double *potentials)> charge_response;
};

/// eV, Å, e. Arrays that were not asked for, or that the model has not, are empty.
struct Evaluation {
    double energy = 0.0;
    std::vector<double> energies;      // [n]
    std::vector<double> forces;        // [n][3]
    std::vector<double> virial;        // [9] row-major, positive trace = compressed
    std::vector<double> atom_virials;  // [n][9]
    std::vector<double> charges;       // [n]
    std::vector<double> potentials;    // [n], V: dE_el/dq_i
    std::vector<double> born_charges;  // [n][9], row-major, field direction slow
};

/// Evaluates a model on systems given by positions, cell and pairs with periodic shifts.
class PeriodicEvaluator {
public:
    PeriodicEvaluator(std::shared_ptr<const Model> model, const PotentialOptions &options);

    const Model &model() const { return potential_.model(); }
    const std::string &simd() const { return potential_.simd(); }

    /// types: [n_atoms]. Pair p joins atom first[p] with the image of second[p] that is shifted by
    /// shifts[p] . cell; each pair is listed in both directions. Pairs beyond the cutoffs (a skin) are welcome.
    /// Throws InputError for indices or types out of range.
    void set_neighbors(int n_atoms, const std::int32_t *types, std::size_t n_pairs, const std::int32_t *first,
                       const std::int32_t *second, const std::int32_t *shifts);

    /// positions: [n][3], Å, consistent with the shifts. Throws InputError for numbers that are not finite, atoms at
    /// one place, or a model that has no energy.
    Evaluation evaluate(const double *positions, const Cell &cell, const EvaluationOptions &options);

    /// [n][n_descriptors], unscaled.
    std::vector<double> descriptors(const double *positions, const Cell &cell);

    /// [3] of a dipole model, [9] of a polarizability model.
    std::vector<double> tensor(const double *positions, const Cell &cell);

    int n_atoms() const { return n_atoms_; }
    std::string describe_kspace() const { return reciprocal_ ? reciprocal_->describe() : "none"; }
    std::size_t memory() const;  // bytes of the neighbour list

private:
    Atoms atoms_at(const double *positions, const Cell &cell) const;
    void add_charges(const Cell &cell, const Atoms &atoms, const EvaluationOptions &options, Evaluation &result,
                     const ForceOutput &output);
    void prepare_reciprocal_sum(const Cell &cell, const EvaluationOptions &options);

    Potential potential_;
    int n_threads_;
    Precision precision_;
    int n_atoms_ = 0;
    std::vector<PeriodicImage> images_;
    std::vector<int> types_;  // [n_total]
    NeighborList neighbors_;
    std::unique_ptr<ReciprocalSum> reciprocal_;
    // What reciprocal_ was made for.
    std::string reciprocal_method_;
    double reciprocal_accuracy_ = 0.0;
    int reciprocal_n_atoms_ = 0;
    bool reciprocal_cell_is_huge_ = false;  // too large for an Ewald sum
};

}  // namespace qnep
