// Reciprocal part of the Coulomb energy of a periodic cell, at the fixed Ewald parameter of a model.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>

#include "precision.h"

namespace qnep {

/// Cell vectors as rows, Å.
using Cell = std::array<std::array<double, 3>, 3>;

/// Results are added to the arrays; null pointers are not wanted.
struct ReciprocalOutput {
    double *site_energies = nullptr;  // [n], eV: K q_i Phi_i
    double *potentials = nullptr;     // [n], V: V_i = dE/dq_i = 2 K Phi_i
    double *forces = nullptr;         // [n][3], eV/Å at fixed charges
    double *virial = nullptr;         // [9] row-major, eV
    double *atom_virials = nullptr;   // [n][9], eV
};

/// E = K sum over k of G_k |S_k|^2 for point charges smeared with exp(-k^2/4 alpha^2), including each charge's own
/// Gaussian (what charge mode 2 calls the energy; mode 1 adds the real-space part and the self term). k = 0 is left
/// out: tin-foil boundary, a charged cell has a uniform background.
class ReciprocalSum {
public:
    virtual ~ReciprocalSum() = default;
    /// Prepare for a cell; cheap if it did not change. Throws InputError for a cell without volume.
    virtual void set_cell(const Cell &cell) = 0;
    /// positions: [n][3], Å, anywhere in space; charges: [n], e. Returns the energy, eV.
    virtual double compute(int n, const double *positions, const double *charges, const ReciprocalOutput &output) = 0;
    virtual std::string describe() const = 0;  // for logs: number of k vectors or mesh
};

/// Adds `values[0 ... n-1]` up over all domains of a distributed system, in place.
using DomainSum = std::function<void(int n, double *values)>;

/// Plain sum over the half space |k| < 2 pi alpha. With a `domain_sum` each domain passes its own atoms to `compute`,
/// which sums the structure factors over the domains; energy and virial are then those of the whole system.
/// In single precision the sums over 64 atoms and those over the vectors are; what is summed further is not. Forces are
/// then off by some 1e-6 of the larger ones.
std::unique_ptr<ReciprocalSum> make_ewald(double alpha, int n_threads, DomainSum domain_sum = {},
                                          Precision precision = Precision::double_precision);

/// Particle mesh with B-splines: one real transform forward and one back (six more back for atom virials).
///
/// What it approximates is the sum over |k| < 2 pi alpha of `make_ewald`, with the same limit: that sum is what the
/// charges of a model are trained on, and both routes then agree to any accuracy asked for. (A mesh without the limit,
/// as GPUMD's, differs by the tail beyond it: 2e-5 eV/Å at charges of 0.3 e, 1e-4 at random unit charges. The price is
/// that in a changing cell single vectors with weights below 5e-5 enter and leave, as in the Ewald sum.)
///
/// `accuracy`: root mean square error of the forces relative to that sum, eV/Å, for random unit charges at 0.1
/// atoms/Å^3, 1e-9 ... 0.1; it scales with the square of the charges. It chooses the spacing and the spline's order.
/// Forces are the exact gradient of the mesh energy; hence they do not add up to zero exactly, but to about the
/// accuracy times the square root of the number of atoms. The virial is the exact derivative at fixed mesh. The
/// result does not depend on the number of threads. With a `domain_sum` each domain passes its own atoms, the mesh is
/// summed over the domains and transformed by each of them. In single precision the mesh is; its rounding, some 1e-6 of
/// the larger forces, comes on top of `accuracy`.
std::unique_ptr<ReciprocalSum> make_pppm(double alpha, double accuracy, int n_threads, DomainSum domain_sum = {},
                                         Precision precision = Precision::double_precision);

/// Whether the plain sum is expected to take less time than the mesh, from measured costs of their parts.
bool ewald_is_faster(double alpha, int n, const Cell &cell, double accuracy);

/// The faster of the two for `n` atoms in such a cell.
std::unique_ptr<ReciprocalSum> make_reciprocal_sum(double alpha, int n, const Cell &cell, double accuracy,
                                                   int n_threads, DomainSum domain_sum = {},
                                                   Precision precision = Precision::double_precision);

}  // namespace qnep
