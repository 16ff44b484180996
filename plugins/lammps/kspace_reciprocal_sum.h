// The reciprocal sum by a k-space solver of LAMMPS.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "electrostatics.h"
#include "lmptype.h"
#include "qnep_settings.h"

namespace LAMMPS_NS {

class KSpace;
class LAMMPS;
class Pair;

/// Owns a PPPM or Ewald solver of LAMMPS and makes it compute E_k of a model: Ewald parameter alpha of the model,
/// Coulomb constant of the model, without the self and background terms that LAMMPS includes. Works in eV, Å and e
/// in every unit style. All ranks call it together, each with its owned atoms in the order of the LAMMPS arrays.
class KSpaceReciprocalSum : public qnep::ReciprocalSum {
public:
    /// alpha: 1/Å; cutoff: of the model, Å.
    KSpaceReciprocalSum(LAMMPS *lammps, const QNEPSettings &settings, double alpha, double cutoff);
    ~KSpaceReciprocalSum() override;

    void set_cell(const qnep::Cell &cell) override;

    /// `positions` is not looked at: the solver reads the positions of the LAMMPS atoms. Returns this rank's share of
    /// the energy (the sum of its site energies); `output.virial` receives that of the whole system on every rank.
    double compute(int n, const double *positions, const double *charges,
                   const qnep::ReciprocalOutput &output) override;

    std::string describe() const override;
    double memory_usage() const;

protected:
    /// Name of the solver in LAMMPS.
    virtual std::string style() const;
    /// Sums over the charges that the solver keeps; of all ranks.
    virtual void set_charge_sums();
    /// Spreads the mesh over the ranks as the box is now.
    virtual void spread_mesh();
    void create_solver();
    /// Makes the solver if there is none for the box of now.
    void require_solver();
    /// Within a loan of charges and forces, before the solver computes.
    void prepare_solver();
    void start_solver();
    double own_gaussian() const;  // energy of a unit charge's own Gaussian, eV/e^2
    double background() const;    // energy of a unit charge with the uniform background, eV/e

    // Stands in for a charge of exactly zero, by which the energy of the atom could not be divided to get its
    // potential.
    static constexpr double tiny_charge = 1.0e-40;

    LAMMPS *lammps_;
    QNEPSettings settings_;
    std::unique_ptr<Pair> pair_;  // what the solver sees as the pair style
    std::unique_ptr<KSpace> solver_;
    std::array<double, 3> lengths_at_start_{};
    bool is_ready_ = false;

private:
    void follow_domains();
    bool has_outgrown_mesh() const;
    void lend_charges(int n, const double *charges);
    void lend_forces(int n, double *forces);
    double take_energies(int n, const qnep::ReciprocalOutput &output) const;
    void take_virials(int n, const qnep::ReciprocalOutput &output) const;

    double alpha_;
    bool has_new_cell_ = true;
    qnep::Cell cell_{};
    bigint n_list_builds_ = -1;          // of LAMMPS, when the bounds below were looked at
    std::array<double, 6> subdomain_{};  // bounds as fractions of the box
    std::vector<double> charges_;        // [n]
    std::vector<double> unused_forces_;  // [n][3]
    std::vector<double *> force_rows_;   // [n]
};

}  // namespace LAMMPS_NS
