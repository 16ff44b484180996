// The content of a model file (nep.txt): settings, parameters in file order, and where each block lies.
#pragma once

#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

namespace qnep {

/// A model file or a set of model settings that cannot be used. The text names file, line, what was wanted and what
/// came.
class ModelError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Wrong input to an evaluation (positions, cell, types, neighbour list).
class InputError : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

/// Two atoms are at the same place.
class CoincidentAtoms : public InputError {
public:
    CoincidentAtoms(int first_index, int second_index):
        InputError("atoms " + std::to_string(first_index) + " and " + std::to_string(second_index) +
                   " are at the same place"),
        first(first_index), second(second_index) {}

    int first, second;  // indices in the arrays that were handed over
};

enum class ModelKind { potential, dipole, polarizability };

enum class ZblForm { none, universal, typewise, flexible };

/// The many-body invariants that the flags of the `l_max` line switch on, in the order of the file.
enum class Invariant { q222, q1111, q112, q123, q233, q134 };
inline constexpr int n_invariants = 6;

/// Largest settings that the evaluation supports; those of the reference trainer or above.
struct ModelLimits {
    static constexpr int l_max = 8;
    static constexpr int n_max = 20;
    static constexpr int basis_size = 20;
    static constexpr int neurons = 1000;
};

/// A NEP or qNEP model.
///
/// Lengths in Å, energies in eV, charges in e. Cutoffs are per type; a pair uses the mean of its two. `parameters`
/// holds every number after the header in file order, so that a trainer can treat a model as one vector.
struct Model {
    int version = 4;  // 3, 4 or 5
    ModelKind kind = ModelKind::potential;
    int charge_mode = 0;  // 0: no charges; 1: full Ewald sum; 2: reciprocal part only
    bool has_temperature = false;
    std::vector<std::string> elements;

    ZblForm zbl = ZblForm::none;
    double zbl_inner_cutoff = 0.0;
    double zbl_outer_cutoff = 0.0;
    double zbl_typewise_factor = 0.0;

    std::vector<double> radial_cutoffs;   // [n_types]
    std::vector<double> angular_cutoffs;  // [n_types]
    bool has_uniform_cutoffs = true;
    int max_radial_neighbors = 0;  // a hint of the trainer about memory, never a limit
    int max_angular_neighbors = 0;

    int n_max_radial = 4;
    int n_max_angular = 4;
    int basis_size_radial = 8;
    int basis_size_angular = 8;
    int l_max = 4;
    std::array<bool, n_invariants> invariants{};
    int n_neurons = 30;

    std::vector<double> parameters;

    // Sizes that follow from the settings.
    int n_types() const { return static_cast<int>(elements.size()); }
    int n_radial() const { return n_max_radial + 1; }
    int n_angular() const { return n_max_angular + 1; }
    int k_radial() const { return basis_size_radial + 1; }
    int k_angular() const { return basis_size_angular + 1; }
    int n_angular_blocks() const;  // N_L: l_max plus the invariants that are on
    int n_descriptors() const;     // with the temperature, if there is one
    int n_outputs() const { return charge_mode > 0 ? 2 : 1; }
    int n_networks() const { return version == 3 ? 1 : n_types(); }
    double largest_radial_cutoff() const;
    double largest_angular_cutoff() const;
    double largest_cutoff() const;  // of the two
    bool has_charges() const { return charge_mode > 0; }
    /// Ewald parameter alpha = pi / R_radial, 1/Å.
    double ewald_alpha() const;

    // Where the blocks of `parameters` begin.
    std::size_t network_size() const;                         // of one type: w0, b0, w1 and the type bias of version 5
    std::size_t network_offset(int type, int set = 0) const;  // set 1: scalar part of a polarizability model
    std::size_t sqrt_epsilon_offset() const;                  // charge models only
    std::size_t bias_offset(int set = 0) const;
    std::size_t radial_offset() const;   // c^r[n][k][t_i][t_j]
    std::size_t angular_offset() const;  // c^a[n][k][t_i][t_j]
    std::size_t scaler_offset() const;
    std::size_t zbl_offset() const;
    std::size_t n_parameters() const;

    /// First token of the file, as `nep4_zbl_charge2`.
    std::string token() const;

    /// Throws ModelError if settings or parameters are inconsistent, out of range or not finite.
    void check() const;
};

/// Read a model file. Throws ModelError naming file, line, what was wanted and what came.
Model read_model(const std::string &path);

/// Parse the text of a model file; `name` stands for the file in messages.
Model parse_model(const std::string &text, const std::string &name);

/// The text of a model file; numbers are written so that reading returns the same doubles.
std::string format_model(const Model &model);

void write_model(const Model &model, const std::string &path);

/// Atomic number of a chemical symbol (1 ... 94), 0 if there is no such element.
int atomic_number(const std::string &symbol);

}  // namespace qnep
