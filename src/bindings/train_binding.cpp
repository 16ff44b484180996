// The pair operator of the trainer for Python: arrays in, arrays out.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "../core/pair_operator.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <typename T>
using Array = nb::ndarray<T, nb::c_contig, nb::device::cpu>;
template <typename T>
using OptionalArray = std::optional<Array<T>>;

/// The constant tables of a batch; holds the arrays alive that the core only points to.
template <typename Real>
class PairTables {
public:
    using Index = Array<const std::int64_t>;
    using Small = Array<const std::int32_t>;
    using Table = Array<const Real>;

    PairTables(Index blocks, std::vector<Index> rows, std::vector<Small> neighbors, std::vector<Small> types,
               std::vector<Table> vectors, std::vector<Table> directions, std::vector<Table> slopes, Table values,
               Table harmonics, Table gradients, int n_threads):
        indices_{blocks, rows.at(0), rows.at(1)},
        smalls_{neighbors.at(0), neighbors.at(1), types.at(0), types.at(1)}, tables_{vectors.at(0),    vectors.at(1),
                                                                                     directions.at(0), directions.at(1),
                                                                                     slopes.at(0),     slopes.at(1),
                                                                                     values,           harmonics,
                                                                                     gradients} {
        layout_.n_types = static_cast<int>(blocks.shape(0));
        layout_.n_frames = static_cast<int>(blocks.shape(1)) - 1;
        layout_.blocks = blocks.data();
        layout_.n_threads = n_threads;
        fill(radial_, 0, rows, neighbors, types, vectors, directions, slopes);
        fill(angular_.radial, 1, rows, neighbors, types, vectors, directions, slopes);
        angular_.values = values.data();
        angular_.harmonics = harmonics.data();
        angular_.gradients = gradients.data();
        angular_.n_harmonics = static_cast<int>(harmonics.shape(1));
    }

    void sum(std::vector<Array<Real>> radial, std::vector<Array<Real>> angular, OptionalArray<Real> forces,
             OptionalArray<Real> virials, OptionalArray<Real> born_charges) const {
        const auto derivatives = pointers(radial, angular);
        const auto sums = targets(forces, virials, born_charges);
        nb::gil_scoped_release release;
        qnep::sum_pairs(layout_, radial_, angular_, derivatives, sums);
    }

    void spread(OptionalArray<Real> forces, OptionalArray<Real> virials, OptionalArray<Real> born_charges,
                std::vector<Array<Real>> radial, std::vector<Array<Real>> angular) const {
        const auto derivatives = pointers(radial, angular);
        const auto gradients = targets(forces, virials, born_charges);
        nb::gil_scoped_release release;
        qnep::sum_pairs_transposed(layout_, radial_, angular_, gradients, derivatives);
    }

private:
    void fill(qnep::RadialPairs<Real> &pairs, std::size_t kind, const std::vector<Index> &rows,
              const std::vector<Small> &neighbors, const std::vector<Small> &types, const std::vector<Table> &vectors,
              const std::vector<Table> &directions, const std::vector<Table> &slopes) {
        pairs.rows = rows[kind].data();
        pairs.neighbors = neighbors[kind].data();
        pairs.types = types[kind].data();
        pairs.vectors = vectors[kind].data();
        pairs.directions = directions[kind].data();
        pairs.slopes = slopes[kind].data();
        pairs.n_basis = static_cast<int>(slopes[kind].shape(1));
    }

    static qnep::DensityDerivatives<Real> pointers(const std::vector<Array<Real>> &radial,
                                                   const std::vector<Array<Real>> &angular) {
        qnep::DensityDerivatives<Real> derivatives;
        for (const auto &array : radial) {
            derivatives.radial.push_back(array.data());
        }
        for (const auto &array : angular) {
            derivatives.angular.push_back(array.data());
        }
        return derivatives;
    }

    static qnep::PairSums<Real> targets(const OptionalArray<Real> &forces, const OptionalArray<Real> &virials,
                                        const OptionalArray<Real> &born_charges) {
        qnep::PairSums<Real> sums;
        sums.forces = forces ? forces->data() : nullptr;
        sums.virials = virials ? virials->data() : nullptr;
        sums.born_charges = born_charges ? born_charges->data() : nullptr;
        return sums;
    }

    std::vector<Index> indices_;
    std::vector<Small> smalls_;
    std::vector<Table> tables_;
    qnep::BatchLayout layout_;
    qnep::RadialPairs<Real> radial_;
    qnep::AngularPairs<Real> angular_;
};

template <typename Real>
void bind_tables(nb::module_ &module, const char *name) {
    using Tables = PairTables<Real>;
    nb::class_<Tables>(module, name,
                       "Constant neighbour tables of a batch of structures: the linear map from dE/dA to forces, "
                       "virials and Born charges, and its transpose. Lists of two: radial, angular.")
        .def(nb::init<typename Tables::Index, std::vector<typename Tables::Index>, std::vector<typename Tables::Small>,
                      std::vector<typename Tables::Small>, std::vector<typename Tables::Table>,
                      std::vector<typename Tables::Table>, std::vector<typename Tables::Table>, typename Tables::Table,
                      typename Tables::Table, typename Tables::Table, int>(),
             "blocks"_a, "rows"_a, "neighbors"_a, "types"_a, "vectors"_a, "directions"_a, "slopes"_a, "values"_a,
             "harmonics"_a, "gradients"_a, "n_threads"_a = 1)
        .def("sum", &Tables::sum, "radial"_a.noconvert(), "angular"_a.noconvert(), "forces"_a.noconvert().none(),
             "virials"_a.noconvert().none(), "born_charges"_a.noconvert().none(),
             "Add forces, virials and Born charges of dE/dA to the arrays that are not None.")
        .def("spread", &Tables::spread, "forces"_a.noconvert().none(), "virials"_a.noconvert().none(),
             "born_charges"_a.noconvert().none(), "radial"_a.noconvert(), "angular"_a.noconvert(),
             "Transpose of `sum`: add to the lists of dE/dA.");
}

}  // namespace

void bind_train(nb::module_ &module) {
    bind_tables<float>(module, "PairTablesFloat");
    bind_tables<double>(module, "PairTablesDouble");
}
