// What earlier conjugate gradients tell about the inverse of a slowly changing matrix.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <vector>

namespace qnep {

/// Sum of products with four partial sums, which the compiler may keep in a vector.
inline double dot_product(std::size_t n, const double *a, const double *b) {
    double sums[4] = {};
    std::size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (int lane = 0; lane < 4; ++lane)
            sums[lane] += a[i + lane] * b[i + lane];
    }
    for (; i < n; ++i)
        sums[0] += a[i] * b[i];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/// Limited-memory BFGS estimate of the inverse of a symmetric positive matrix H, as a preconditioner of the next
/// system with nearly the same matrix (Morales and Nocedal, SIAM J. Optim. 10, 1079 (2000),
/// doi:10.1137/S1052623497327854). It is symmetric and positive whatever it remembers, so that a wrong memory costs
/// iterations and nothing else.
class InverseEstimate {
public:
    /// step and product, H times step: [n] each.
    void remember(std::vector<double> step, std::vector<double> product) {
        const double curvature = dot_product(step.size(), step.data(), product.data());
        if (!(curvature > 0.0)) return;
        if (!pairs_.empty() && pairs_.front().step.size() != step.size()) pairs_.clear();
        pairs_.push_back({std::move(step), std::move(product), 1.0 / curvature});
        if (pairs_.size() > n_remembered) pairs_.pop_front();
    }

    bool is_empty() const { return pairs_.empty(); }
    void clear() { pairs_.clear(); }

    /// Element i of the next system is what was old_index[i] before, -1 if it is new.
    void renumber(const std::vector<int> &old_index) {
        std::deque<Pair> old;
        old.swap(pairs_);
        for (const Pair &pair : old) {
            std::vector<double> step(old_index.size(), 0.0), product(old_index.size(), 0.0);
            for (std::size_t i = 0; i < old_index.size(); ++i) {
                if (old_index[i] < 0) continue;
                step[i] = pair.step[old_index[i]];
                product[i] = pair.product[old_index[i]];
            }
            remember(std::move(step), std::move(product));
        }
    }

    /// The estimate times `values` [n], with the diagonal [n] where nothing is known.
    std::vector<double> apply(const std::vector<double> &diagonal, const std::vector<double> &values) const {
        const std::size_t n = values.size();
        std::vector<double> result(values), shares(pairs_.size());
        for (std::size_t p = pairs_.size(); p-- > 0;) {
            const Pair &pair = pairs_[p];
            shares[p] = pair.inverse_curvature * dot_product(n, pair.step.data(), result.data());
            for (std::size_t i = 0; i < n; ++i)
                result[i] -= shares[p] * pair.product[i];
        }
        for (std::size_t i = 0; i < n; ++i)
            result[i] *= diagonal[i];
        for (std::size_t p = 0; p < pairs_.size(); ++p) {
            const Pair &pair = pairs_[p];
            const double share =
                shares[p] - pair.inverse_curvature * dot_product(n, pair.product.data(), result.data());
            for (std::size_t i = 0; i < n; ++i)
                result[i] += share * pair.step[i];
        }
        return result;
    }

private:
    struct Pair {
        std::vector<double> step, product;
        double inverse_curvature;
    };
    /// Of about sixteen steps; twice as many save one iteration more and cost as much as they save.
    static constexpr std::size_t n_remembered = 80;
    std::deque<Pair> pairs_;  // the oldest first
};

}  // namespace qnep
