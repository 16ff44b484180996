// The reciprocal sum by a k-space solver of LAMMPS.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "electrostatics.h"
#include "qnep_settings.h"

namespace LAMMPS_NS {

class KSpace;
class LAMMPS;

/// Owns a PPPM or Ewald solver of LAMMPS and makes it compute E_k of a model: Ewald parameter alpha of the model,
/// Coulomb constant of the model, without the self and background terms that LAMMPS includes. Works in eV, Å and e
/// in every unit style. All ranks call it together, each with its owned atoms in the order of the LAMMPS arrays.
class KSpaceReciprocalSum : public qnep::ReciprocalSum {
public:
    KSpaceReciprocalSum(LAMMPS *lammps, const QNEPSettings &settings, double alpha);
    ~KSpaceReciprocalSum() override;

    void set_cell(const qnep::Cell &cell) override;

    /// `positions` is not looked at: the solver reads the positions of the LAMMPS atoms. Returns this rank's share of
    /// the energy (the sum of its site energies); `output.virial` receives that of the whole system on every rank.
    double compute(int n, const double *positions, const double *charges,
                   const qnep::ReciprocalOutput &output) override;

    std::string describe() const override;
    double memory_usage() const;

private:
    void create_solver();
    void prepare_solver();
    void start_solver();
    void follow_domains();
    bool has_outgrown_mesh() const;
    void lend_charges(int n, const double *charges);
    void lend_forces(int n, double *forces);
    double take_energies(int n, const qnep::ReciprocalOutput &output) const;
    void take_virials(int n, const qnep::ReciprocalOutput &output) const;

    LAMMPS *lammps_;
    QNEPSettings settings_;
    double alpha_;
    std::unique_ptr<KSpace> solver_;
    bool is_ready_ = false;
    bool has_new_cell_ = true;
    qnep::Cell cell_{};
    std::array<double, 3> lengths_at_start_{};
    std::array<double, 6> subdomain_{};  // bounds as fractions of the box
    std::vector<double> charges_;        // [n]
    std::vector<double> unused_forces_;  // [n][3]
    std::vector<double *> force_rows_;   // [n]
};

}  // namespace LAMMPS_NS
