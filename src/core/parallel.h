// Loops over threads: OpenMP where the compiler has it, else one thread.
#pragma once

#include <algorithm>
#include <cstddef>

namespace qnep {

/// Calls body(begin, end, thread) once per thread on consecutive, nearly equal parts of 0 ... count-1. Which part
/// belongs to which thread depends on nothing but `n_threads`, so sums that are kept per thread are reproducible.
/// The body must not throw.
template <class Body>
void parallel_ranges(int n_threads, std::size_t count, const Body &body) {
    const std::size_t parts = std::max<std::size_t>(1, std::min<std::size_t>(n_threads, count));
    if (parts == 1) {
        body(std::size_t{0}, count, 0);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 1) num_threads(static_cast <int>(parts))
#endif
    for (long part = 0; part < static_cast<long>(parts); ++part) {
        body(count * part / parts, count * (part + 1) / parts, static_cast<int>(part));
    }
}

}  // namespace qnep
