#include "inverse_estimate.h"

#include <cmath>
#include <utility>

#include "every_simd.h"

namespace qnep {
namespace {

constexpr int n_lanes = 16;  // partial sums

QNEP_EVERY_SIMD
double mixed_dot_product(std::size_t n, const float *a, const double *b) {
    double sums[n_lanes] = {};
    std::size_t i = 0;
    for (; i + n_lanes <= n; i += n_lanes) {
        for (int lane = 0; lane < n_lanes; ++lane)
            sums[lane] += a[i + lane] * b[i + lane];
    }
    double sum = 0.0;
    for (; i < n; ++i)
        sum += a[i] * b[i];
    for (double part : sums)
        sum += part;
    return sum;
}

QNEP_EVERY_SIMD
void add_scaled(std::size_t n, double scale, const float *added, double *values) {
    for (std::size_t i = 0; i < n; ++i)
        values[i] += scale * added[i];
}

std::vector<double> renumbered(const std::vector<float> &values, const std::vector<int> &old_index) {
    std::vector<double> result(old_index.size(), 0.0);
    for (std::size_t i = 0; i < old_index.size(); ++i) {
        if (old_index[i] >= 0) result[i] = values[old_index[i]];
    }
    return result;
}

}  // namespace

void InverseEstimate::remember(const std::vector<double> &step, const std::vector<double> &product) {
    const double curvature = dot_product(step.size(), step.data(), product.data());
    if (!(curvature > 0.0)) return;
    if (!pairs_.empty() && pairs_.front().step.size() != step.size()) pairs_.clear();
    // In single precision, small numbers must stay numbers: the scale of a pair does not matter.
    const double scale = 1.0 / std::sqrt(curvature);
    Pair pair{std::vector<float>(step.size()), std::vector<float>(step.size())};
    for (std::size_t i = 0; i < step.size(); ++i) {
        pair.step[i] = static_cast<float>(scale * step[i]);
        pair.product[i] = static_cast<float>(scale * product[i]);
    }
    pairs_.push_back(std::move(pair));
    if (pairs_.size() > n_remembered) pairs_.pop_front();
}

void InverseEstimate::renumber(const std::vector<int> &old_index) {
    std::deque<Pair> old;
    old.swap(pairs_);
    for (const Pair &pair : old)
        remember(renumbered(pair.step, old_index), renumbered(pair.product, old_index));
}

std::vector<double> InverseEstimate::apply(const std::vector<double> &diagonal,
                                           const std::vector<double> &values) const {
    const std::size_t n = values.size();
    std::vector<double> result(values), shares(pairs_.size());
    for (std::size_t p = pairs_.size(); p-- > 0;) {
        shares[p] = mixed_dot_product(n, pairs_[p].step.data(), result.data());
        add_scaled(n, -shares[p], pairs_[p].product.data(), result.data());
    }
    for (std::size_t i = 0; i < n; ++i)
        result[i] *= diagonal[i];
    for (std::size_t p = 0; p < pairs_.size(); ++p) {
        const double share = shares[p] - mixed_dot_product(n, pairs_[p].product.data(), result.data());
        add_scaled(n, share, pairs_[p].step.data(), result.data());
    }
    return result;
}

}  // namespace qnep
