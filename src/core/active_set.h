// How far an atom's environment lies outside those that a model was trained on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model.h"

namespace qnep {

/// For each element the inverse of the square matrix A of environments that span the training data (MaxVol). The grade
/// of an environment is the largest component of |(q, 1) A^-1|, with q the scaled descriptors: up to one within the
/// training data, larger outside (Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017),
/// doi:10.1016/j.commatsci.2017.08.031).
class ActiveSet {
public:
    /// Text form, numbers separated by white space:
    ///   qnep_active_set 1
    ///   model CHECKSUM          model_checksum() of the model, hexadecimal
    ///   features N              number of descriptors
    ///   element X               then (N + 1) rows of (N + 1) numbers, A^-1; once for each element of the data
    ///   end
    /// Throws InputError with name, what was wanted and what came.
    static ActiveSet parse(const std::string &text, const std::string &name, const Model &model);

    /// Grade of an atom of a type (index into Model::elements); infinite for an element that the data lack.
    /// descriptors: [N], unscaled. scratch: [N + 1].
    double grade(int type, const double *descriptors, double *scratch) const;

    int n_features() const { return static_cast<int>(scalers_.size()); }

private:
    std::vector<double> scalers_;
    std::vector<std::vector<double>> inverses_;  // [type][N + 1][N + 1] row-major; empty: no data
};

/// CRC-32 (IEEE 802.3) of the bytes of the parameters as little-endian doubles: tells models apart.
std::uint32_t model_checksum(const Model &model);

}  // namespace qnep
