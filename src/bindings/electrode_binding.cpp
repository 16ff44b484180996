// qnep._core.ChargeEquilibration: charges of Gaussian atoms under constraints.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bindings.h"
#include "charge_equilibration.h"
#include "model.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Positions = nb::ndarray<const double, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;
using CellArray = nb::ndarray<const double, nb::shape<3, 3>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Weights = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Shifts = nb::ndarray<const std::int32_t, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;

void require_length(std::size_t wanted, std::size_t got, const char *what) {
    if (wanted != got) {
        throw qnep::InputError(std::string(what) + " must have length " + std::to_string(wanted) + ", got " +
                               std::to_string(got));
    }
}

nb::object copy_to_numpy(const double *values, std::initializer_list<std::size_t> shape) {
    return nb::cast(nb::ndarray<nb::numpy, const double>(values, shape), nb::rv_policy::copy);
}

class ChargeEquilibration {
public:
    ChargeEquilibration(double alpha, double cutoff, const std::string &kspace, double accuracy, int n_threads,
                        int slab_axis, double tolerance, int max_iterations):
        solver_({alpha, cutoff, kspace, accuracy, n_threads, slab_axis, tolerance, max_iterations}) {}

    void set_pairs(const Indices &first, const Indices &second, const Shifts &shifts) {
        require_length(first.shape(0), second.shape(0), "second");
        require_length(first.shape(0), shifts.shape(0), "shifts");
        first_.assign(first.data(), first.data() + first.shape(0));
        second_.assign(second.data(), second.data() + second.shape(0));
        shifts_.assign(shifts.data(), shifts.data() + 3 * shifts.shape(0));
        are_pairs_new_ = true;
    }

    nb::dict solve(const Positions &positions, const CellArray &cell, const Numbers &electronegativities,
                   const Numbers &hardnesses, const nb::object &widths, const Weights &weights, const Numbers &totals,
                   bool forces) {
        const auto system = gather(positions, cell, electronegativities, hardnesses, widths);
        require_length(weights.shape(0), totals.shape(0), "totals");
        require_length(system.n, weights.shape(1), "the second axis of weights");
        const qnep::ChargeConstraints constraints{static_cast<int>(weights.shape(0)), weights.data(), totals.data()};
        qnep::EquilibrationResult result;
        {
            nb::gil_scoped_release release;
            result = solver_.solve(system, constraints, forces);
        }
        return to_dict(result);
    }

    nb::dict evaluate(const Positions &positions, const CellArray &cell, const Numbers &electronegativities,
                      const Numbers &hardnesses, const nb::object &widths, const Numbers &charges) {
        const auto system = gather(positions, cell, electronegativities, hardnesses, widths);
        require_length(system.n, charges.shape(0), "charges");
        return to_dict(solver_.evaluate(system, charges.data()));
    }

    void reset() { solver_.reset(); }
    std::string describe() const { return solver_.describe(); }

private:
    qnep::GaussianCharges gather(const Positions &positions, const CellArray &cell, const Numbers &electronegativities,
                                 const Numbers &hardnesses, const nb::object &widths) {
        const std::size_t n = positions.shape(0);
        require_length(n, electronegativities.shape(0), "electronegativities");
        require_length(n, hardnesses.shape(0), "hardnesses");
        qnep::GaussianCharges system;
        system.n = static_cast<int>(n);
        system.positions = positions.data();
        for (int d = 0; d < 3; ++d)
            std::copy_n(cell.data() + 3 * d, 3, system.cell[d].begin());
        system.electronegativities = electronegativities.data();
        system.hardnesses = hardnesses.data();
        if (widths.is_none()) return system;
        const auto given = nb::cast<Numbers>(widths);
        require_length(n, given.shape(0), "widths");
        widths_.assign(given.data(), given.data() + n);
        system.widths = widths_.data();
        for (const auto *indices : {&first_, &second_}) {
            for (std::int32_t index : *indices) {
                if (index < 0 || index >= system.n) {
                    throw qnep::InputError("indices of pairs must be in 0 ... " + std::to_string(system.n - 1) +
                                           ", got " + std::to_string(index));
                }
            }
        }
        system.has_new_pairs = are_pairs_new_;
        are_pairs_new_ = false;
        system.n_pairs = first_.size();
        system.first = first_.data();
        system.second = second_.data();
        system.shifts = shifts_.data();
        return system;
    }

    static nb::dict to_dict(const qnep::EquilibrationResult &result) {
        const std::size_t n = result.charges.size();
        nb::dict values;
        values["energy"] = result.energy;
        values["charges"] = copy_to_numpy(result.charges.data(), {n});
        values["multipliers"] = copy_to_numpy(result.multipliers.data(), {result.multipliers.size()});
        if (!result.forces.empty()) {
            values["forces"] = copy_to_numpy(result.forces.data(), {n, 3});
            values["virial"] = copy_to_numpy(result.virial.data(), {3, 3});
        }
        values["n_iterations"] = result.n_iterations;
        values["error_bound"] = result.error_bound;
        return values;
    }

    qnep::ChargeEquilibration solver_;
    std::vector<std::int32_t> first_, second_, shifts_;
    bool are_pairs_new_ = true;
    std::vector<double> widths_;
};

}  // namespace

void bind_electrode(nb::module_ &module) {
    nb::exception<qnep::ConvergenceError>(module, "ConvergenceError", PyExc_RuntimeError);
    nb::class_<ChargeEquilibration>(module, "ChargeEquilibration",
                                    "Charges that minimise the energy of Gaussian charges with electronegativity and "
                                    "hardness under linear constraints; conjugate gradients, warm start.")
        .def(nb::init<double, double, const std::string &, double, int, int, double, int>(), "alpha"_a,
             "cutoff"_a = 0.0, "kspace"_a = "auto", "accuracy"_a = 1e-5, "n_threads"_a = 1, "slab_axis"_a = -1,
             "tolerance"_a = 1e-7, "max_iterations"_a = 200)
        .def("set_pairs", &ChargeEquilibration::set_pairs, "first"_a, "second"_a, "shifts"_a,
             "Pairs within the cutoff, both directions, with shifts [p, 3] of the second atom; only for widths.")
        .def("solve", &ChargeEquilibration::solve, "positions"_a, "cell"_a, "electronegativities"_a, "hardnesses"_a,
             "widths"_a.none(), "weights"_a, "totals"_a, "forces"_a = true,
             "Minimise under weights [k, n] @ charges = totals [k]. Dictionary of energy (eV), charges (e), "
             "multipliers (V), forces (eV/Å) and virial (eV) if wanted, n_iterations, error_bound (e).")
        .def("evaluate", &ChargeEquilibration::evaluate, "positions"_a, "cell"_a, "electronegativities"_a,
             "hardnesses"_a, "widths"_a.none(), "charges"_a, "The same for given charges, without minimising.")
        .def("reset", &ChargeEquilibration::reset, "Forget the solutions from which the next start is extrapolated.")
        .def("describe", &ChargeEquilibration::describe);
}
