// qnep._core.ReciprocalSum: the reciprocal part of the Coulomb energy by itself.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "bindings.h"
#include "electrostatics.h"
#include "model.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Positions = nb::ndarray<const double, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;
using CellArray = nb::ndarray<const double, nb::shape<3, 3>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

nb::object copy_to_numpy(const std::vector<double> &values, std::initializer_list<std::size_t> shape) {
    return nb::cast(nb::ndarray<nb::numpy, const double>(values.data(), shape), nb::rv_policy::copy);
}

class ReciprocalSum {
public:
    ReciprocalSum(const std::string &method, double alpha, double accuracy, int n_threads):
        method_(method), alpha_(alpha), accuracy_(accuracy), n_threads_(n_threads) {
        if (method != "auto" && method != "ewald" && method != "pppm") {
            throw qnep::InputError("method must be auto, ewald or pppm, got '" + method + "'");
        }
        if (method != "auto") sum_ = make(method == "ewald");
    }

    nb::dict compute(const Positions &positions, const CellArray &cell, const Numbers &charges, bool virials) {
        const std::size_t n = positions.shape(0);
        if (charges.shape(0) != n) {
            throw qnep::InputError("charges must have shape (" + std::to_string(n) + ",), got (" +
                                   std::to_string(charges.shape(0)) + ",)");
        }
        qnep::Cell rows;
        for (int d = 0; d < 3; ++d)
            std::copy_n(cell.data() + 3 * d, 3, rows[d].begin());
        std::vector<double> energies(n), potentials(n), forces(3 * n), virial(9), atom_virials(virials ? 9 * n : 0);
        qnep::ReciprocalOutput output;
        output.site_energies = energies.data();
        output.potentials = potentials.data();
        output.forces = forces.data();
        output.virial = virial.data();
        if (virials) output.atom_virials = atom_virials.data();
        double energy = 0.0;
        {
            nb::gil_scoped_release release;
            if (method_ == "auto") {
                sum_ = make(qnep::ewald_is_faster(alpha_, static_cast<int>(n), rows, accuracy_));
            }
            sum_->set_cell(rows);
            energy = sum_->compute(static_cast<int>(n), positions.data(), charges.data(), output);
        }
        nb::dict result;
        result["energy"] = energy;
        result["energies"] = copy_to_numpy(energies, {n});
        result["potentials"] = copy_to_numpy(potentials, {n});
        result["forces"] = copy_to_numpy(forces, {n, 3});
        result["virial"] = copy_to_numpy(virial, {3, 3});
        if (virials) result["virials"] = copy_to_numpy(atom_virials, {n, 3, 3});
        return result;
    }

    std::string describe() const { return sum_ ? sum_->describe() : "auto, nothing computed yet"; }

private:
    std::unique_ptr<qnep::ReciprocalSum> make(bool ewald) const {
        return ewald ? qnep::make_ewald(alpha_, n_threads_) : qnep::make_pppm(alpha_, accuracy_, n_threads_);
    }

    std::string method_;
    double alpha_, accuracy_;
    int n_threads_;
    std::unique_ptr<qnep::ReciprocalSum> sum_;
};

}  // namespace

void bind_electrostatics(nb::module_ &module) {
    nb::class_<ReciprocalSum>(module, "ReciprocalSum",
                              "Energy of Gaussian charges exp(-k^2/4 alpha^2) in a periodic cell, each charge's own "
                              "Gaussian included; k = 0 left out.")
        .def(nb::init<const std::string &, double, double, int>(), "method"_a, "alpha"_a, "accuracy"_a = 1e-4,
             "n_threads"_a = 1,
             "method: auto, ewald or pppm; alpha: Ewald parameter, 1/Å; accuracy of the mesh: root mean square error "
             "of forces on unit charges, eV/Å.")
        .def("compute", &ReciprocalSum::compute, "positions"_a, "cell"_a, "charges"_a, "virials"_a = false,
             "Dictionary of energy (eV), energies [n], potentials [n] (V, dE/dq), forces [n, 3] (eV/Å), virial [3, 3] "
             "(eV) and, if wanted, virials [n, 3, 3].")
        .def("describe", &ReciprocalSum::describe, "Number of vectors or mesh, instruction set, threads.");
}
