// Loops over threads: OpenMP where the compiler has it, else one thread.
#pragma once

#ifdef _OPENMP
#include <pthread.h>

#include <atomic>
#endif

#include <algorithm>
#include <cstddef>

namespace qnep {

/// How many threads a parallel region can have: `wanted`, but one in a child that was forked after such a region had
/// run. There OpenMP would wait for ever for the threads of its pool, which a fork does not copy.
inline int usable_threads(int wanted) {
#ifdef _OPENMP
    static std::atomic<bool> has_lost_threads{false};
    if (wanted > 1) {
        static const int registered = pthread_atfork(nullptr, nullptr, [] { has_lost_threads = true; });
        static_cast<void>(registered);
        if (has_lost_threads.load(std::memory_order_relaxed)) return 1;
    }
#endif
    return wanted;
}

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
#pragma omp parallel for schedule(static, 1) num_threads(usable_threads(static_cast <int>(parts)))
#endif
    for (long part = 0; part < static_cast<long>(parts); ++part) {
        body(count * part / parts, count * (part + 1) / parts, static_cast<int>(part));
    }
}

}  // namespace qnep
