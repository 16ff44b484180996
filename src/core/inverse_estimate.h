// What earlier conjugate gradients tell about the inverse of a slowly changing matrix.
#pragma once

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
    /// step and product, H times step: [n] each. They are kept in single precision: the estimate stays what it claims
    /// to be, and memory is what its product with a vector waits for.
    void remember(const std::vector<double> &step, const std::vector<double> &product);

    bool is_empty() const { return pairs_.empty(); }
    void clear() { pairs_.clear(); }

    /// Element i of the next system is what was old_index[i] before, -1 if it is new.
    void renumber(const std::vector<int> &old_index);

    /// The estimate times `values` [n], with the diagonal [n] where nothing is known.
    std::vector<double> apply(const std::vector<double> &diagonal, const std::vector<double> &values) const;

private:
    struct Pair {
        std::vector<float> step, product;  // of unit curvature: their scalar product is 1
    };
    /// Of about sixteen steps; twice as many save one iteration more and cost as much as they save.
    static constexpr std::size_t n_remembered = 80;
    std::deque<Pair> pairs_;  // the oldest first
};

}  // namespace qnep
