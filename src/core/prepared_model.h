// A model rearranged for the kernels, in single or double precision.
#pragma once

#include <vector>

#include "atom_kernel.h"

namespace qnep {

/// Owns the arrays that `view()` points to.
template <typename Real>
class PreparedModel {
public:
    PreparedModel(const Model &model, double temperature);
    PreparedModel(const PreparedModel &) = delete;
    PreparedModel &operator=(const PreparedModel &) = delete;

    const KernelModel<Real> &view() const { return view_; }

private:
    void set_sizes(const Model &model, double temperature);
    void set_coefficients(const Model &model);
    void set_coefficients_by_type(int n_types);
    void set_networks(const Model &model);
    void set_network(const Model &model, int type, int set, std::size_t network);
    void set_cutoffs(const Model &model);

    KernelModel<Real> view_{};
    std::vector<Real> radial_kn_, radial_nk_, radial_slope_nk_, angular_kn_, angular_kn_by_type_;
    std::vector<Real> inverse_angular_cutoffs_, weights_, biases_, outputs_;
    std::vector<double> energy_shift_, radial_cutoffs_, angular_cutoffs_, list_cutoffs_;
    std::vector<ZblPair> zbl_;
};

/// Screened nuclear repulsion for all pairs of types; empty for a model without ZBL.
std::vector<ZblPair> zbl_pairs(const Model &model);

extern template class PreparedModel<double>;
extern template class PreparedModel<float>;

}  // namespace qnep
