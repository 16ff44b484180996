// Three-dimensional real Fourier transform with a filter in the middle: what a particle mesh solver needs.
#pragma once

#include <array>
#include <cstddef>

namespace qnep {

/// Sizes of the transform. The mesh is [n[0]][n[1]][row_length()], its rows hold n[2] points and `n_ghosts` images of
/// the first ones, so that a stencil can be written without asking where the row ends.
struct MeshShape {
    std::array<int, 3> n{};  // points along each lattice vector; factors 2, 3 and 5
    int n_ghosts = 0;        // at most n[2]
    int n_kept = 0;          // frequencies 0 ... n_kept-1 along the third axis; the others are taken as zero
    int n_kept_middle = 0;   // and frequencies -n ... n along the second one, 2 n + 1 <= n[1]
    int n_threads = 1;

    /// Frequencies -n ... n of the second axis are planes 0 ... n_planes()-1; where they stand.
    int n_planes() const { return 2 * n_kept_middle + 1; }
    int middle_index(int plane) const { return plane <= n_kept_middle ? plane : n[1] - n_planes() + plane; }

    std::size_t row_length() const { return static_cast<std::size_t>(n[2]) + n_ghosts; }
    std::size_t size() const { return static_cast<std::size_t>(n[0]) * n[1] * row_length(); }
};

/// Transform of a real mesh. Frequencies of the third axis are kept in blocks of `lanes()`, the arrays of a filter are
/// [n[1]][n_blocks()][n[0]][lanes()], n of the first two axes in the order of a discrete Fourier transform.
template <typename Real>
class MeshTransform {
public:
    virtual ~MeshTransform() = default;
    virtual int lanes() const = 0;
    int n_blocks() const { return (shape_.n_kept + lanes() - 1) / lanes(); }
    std::size_t filter_size() const {
        return static_cast<std::size_t>(shape_.n[0]) * shape_.n[1] * n_blocks() * lanes();
    }
    std::size_t filter_index(int k0, int k1, int k2) const {
        const std::size_t line = static_cast<std::size_t>(k1) * n_blocks() + k2 / lanes();
        return (line * shape_.n[0] + k0) * lanes() + k2 % lanes();
    }

    /// Sum over the mesh of value * exp(-2 pi i k x/n), along the last two axes. Adds the ghosts to their originals.
    virtual void forward(Real *mesh) = 0;
    /// Finish the forward transform S along the first axis, multiply with `filter`, transform that axis back. The
    /// result of `forward` is left as it is, so several filters can be applied. If `power` is not null it becomes
    /// filter * |S|^2 (same layout as the filter) of the frequencies that are kept; thread t writes the t-th part of
    /// the planes.
    virtual void apply(const Real *filter, Real *power) = 0;
    /// The other two axes of the inverse transform of filter * S, without the factor 1/(n0 n1 n2). Sets the ghosts.
    virtual void backward(Real *mesh) = 0;

protected:
    explicit MeshTransform(const MeshShape &shape): shape_(shape) {}
    MeshShape shape_;
};

/// Smallest number >= `lower` with no other prime factors than 2, 3 and 5.
int next_fast_size(int lower);

}  // namespace qnep
