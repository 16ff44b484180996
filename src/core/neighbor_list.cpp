#include <algorithm>
#include <numeric>

#include "potential.h"

namespace qnep {

namespace {

constexpr std::size_t slack = 16;  // indices behind the last one that a vector may read

}  // namespace

void NeighborList::start(const Atoms &atoms, int n_types) {
    owners_.clear();
    n_booked_ = atoms.n_total;
    offsets_.assign(static_cast<std::size_t>(atoms.n_owned) + 1, 0);
    n_segments_ = static_cast<std::size_t>(n_types) + 1;
    segments_.assign(n_segments_ * atoms.n_owned, 0);
}

void NeighborList::assign(const Atoms &atoms, int n_types, int n_lists, const int *owned, const int *counts,
                          const int *const *lists, int mask) {
    start(atoms, n_types);
    for (int k = 0; k < n_lists; ++k)
        offsets_[owned[k] + 1] = counts[owned[k]];
    std::partial_sum(offsets_.begin(), offsets_.end(), offsets_.begin());
    resize_indices(offsets_.back());
    std::vector<int> active;
    active.reserve(n_lists);
    for (int k = 0; k < n_lists; ++k) {
        const int i = owned[k];
        int *to = indices_.data() + offsets_[i];
        for (int p = 0; p < counts[i]; ++p)
            to[p] = lists[i][p] & mask;
        sort_by_type(atoms, i);
        active.push_back(i);
    }
    set_order(atoms, std::move(active));
}

void NeighborList::assign_pairs(const Atoms &atoms, int n_types, std::size_t n_pairs, const int *first,
                                const int *second, const int *owners) {
    start(atoms, n_types);
    for (std::size_t p = 0; p < n_pairs; ++p)
        ++offsets_[first[p] + 1];
    std::partial_sum(offsets_.begin(), offsets_.end(), offsets_.begin());
    resize_indices(n_pairs);
    std::vector<std::size_t> next(offsets_.begin(), offsets_.end() - 1);
    for (std::size_t p = 0; p < n_pairs; ++p)
        indices_[next[first[p]]++] = second[p];
    for (int i = 0; i < atoms.n_owned; ++i)
        sort_by_type(atoms, i);
    if (owners) book_on(owners, atoms.n_owned);
    std::vector<int> active(atoms.n_owned);
    std::iota(active.begin(), active.end(), 0);
    set_order(atoms, std::move(active));
}

void NeighborList::book_on(const int *owners, int n_owned) {
    owners_.resize(indices_.size());
    std::transform(indices_.begin(), indices_.end(), owners_.begin(), [owners](int j) { return owners[j]; });
    n_booked_ = n_owned;
}

// What vectors read behind the end must be indices too.
void NeighborList::resize_indices(std::size_t size) {
    indices_.resize(size + slack);
    std::fill(indices_.begin() + size, indices_.end(), 0);
}

std::size_t NeighborList::memory() const {
    return offsets_.capacity() * sizeof(std::size_t) +
           (indices_.capacity() + owners_.capacity() + segments_.capacity() + order_.capacity()) * sizeof(int);
}

// Counting sort of the neighbours of one atom; those of type -1 go to the end, where the kernels stop.
void NeighborList::sort_by_type(const Atoms &atoms, int atom) {
    int *list = indices_.data() + offsets_[atom];
    const int n = count(atom);
    const int n_types = static_cast<int>(n_segments_) - 1;
    const auto bucket = [&](int j) { return atoms.types[j] < 0 ? n_types : atoms.types[j]; };
    counts_.assign(n_segments_ + 1, 0);
    for (int p = 0; p < n; ++p)
        ++counts_[bucket(list[p]) + 1];
    std::partial_sum(counts_.begin(), counts_.end(), counts_.begin());
    std::copy_n(counts_.begin(), n_segments_, segments_.begin() + n_segments_ * atom);
    buffer_.assign(list, list + n);
    for (int p = 0; p < n; ++p)
        list[counts_[bucket(buffer_[p])]++] = buffer_[p];
}

void NeighborList::set_order(const Atoms &atoms, std::vector<int> active) {
    constexpr std::size_t neighborhood = 256;
    active.erase(std::remove_if(active.begin(), active.end(), [&](int i) { return atoms.types[i] < 0; }), active.end());
    for (std::size_t begin = 0; begin < active.size(); begin += neighborhood) {
        const std::size_t stop = std::min(begin + neighborhood, active.size());
        std::stable_sort(active.begin() + begin, active.begin() + stop,
                         [&](int i, int j) { return atoms.types[i] < atoms.types[j]; });
    }
    order_ = std::move(active);
}

}  // namespace qnep
