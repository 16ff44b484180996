// The module qnep._core: arrays in, arrays out, errors converted, no physics.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <type_traits>

#include "bindings.h"
#include "model.h"
#include "periodic_evaluator.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Positions = nb::ndarray<const double, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;
using CellArray = nb::ndarray<const double, nb::shape<3, 3>, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Shifts = nb::ndarray<const std::int32_t, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Hands a vector to numpy without a copy.
nb::object to_numpy(std::vector<double> &&values, std::initializer_list<std::size_t> shape) {
    auto owned = std::make_unique<std::vector<double>>(std::move(values));
    double *data = owned->data();
    nb::capsule owner(owned.release(), [](void *p) noexcept { delete static_cast<std::vector<double> *>(p); });
    return nb::cast(nb::ndarray<nb::numpy, double>(data, shape, owner));
}

const char *kind_name(qnep::ModelKind kind) {
    constexpr const char *names[] = {"potential", "dipole", "polarizability"};
    return names[static_cast<int>(kind)];
}

const char *zbl_name(qnep::ZblForm form) {
    constexpr const char *names[] = {"none", "universal", "typewise", "flexible"};
    return names[static_cast<int>(form)];
}

template <typename Enum>
Enum enum_from_name(const std::string &name, int count, const char *(*name_of)(Enum), const char *what) {
    std::string wanted;
    for (int i = 0; i < count; ++i) {
        if (name == name_of(static_cast<Enum>(i))) return static_cast<Enum>(i);
        wanted += std::string(i ? ", " : "") + name_of(static_cast<Enum>(i));
    }
    throw qnep::ModelError(std::string(what) + " must be one of " + wanted + ", got '" + name + "'");
}

qnep::Cell to_cell(const CellArray &array) {
    qnep::Cell cell;
    for (int d = 0; d < 3; ++d)
        std::copy_n(array.data() + 3 * d, 3, cell[d].begin());
    return cell;
}

// response(charges [n]) returns potentials [n] to be added.
std::function<void(const double *, double *)> call_back(const nb::object &response, std::size_t n) {
    return [response, n](const double *charges, double *potentials) {
        nb::gil_scoped_acquire acquire;
        const nb::object given = to_numpy(std::vector<double>(charges, charges + n), {n});
        const auto added = nb::cast<Numbers>(response(given));
        if (added.shape(0) != n) {
            throw qnep::InputError("a charge response must return an array of shape (" + std::to_string(n) +
                                   ",), got (" + std::to_string(added.shape(0)) + ",)");
        }
        for (std::size_t i = 0; i < n; ++i)
            potentials[i] += added.data()[i];
    };
}

// Serves one thread at a time. The lock is waited for without the interpreter's, which its owner may need to call back.
class Evaluator {
public:
    Evaluator(const qnep::Model &model, const std::string &precision, const std::string &simd, int n_threads,
              double temperature):
        evaluator_(std::make_shared<const qnep::Model>(model),
                   {precision_from_name(precision), simd, n_threads, temperature}) {}

    void set_neighbors(int n_atoms, const Indices &types, const Indices &first, const Indices &second,
                       const Shifts &shifts) {
        if (types.shape(0) != static_cast<std::size_t>(n_atoms)) {
            throw qnep::InputError("types must have shape (" + std::to_string(n_atoms) + ",), got (" +
                                   std::to_string(types.shape(0)) + ",)");
        }
        if (second.shape(0) != first.shape(0) || shifts.shape(0) != first.shape(0)) {
            throw qnep::InputError("first, second and shifts must have the same length, got " +
                                   std::to_string(first.shape(0)) + ", " + std::to_string(second.shape(0)) + " and " +
                                   std::to_string(shifts.shape(0)));
        }
        nb::gil_scoped_release release;
        const Lock lock(mutex_);
        evaluator_.set_neighbors(n_atoms, types.data(), first.shape(0), first.data(), second.data(), shifts.data());
    }

    nb::dict evaluate(const Positions &positions, const CellArray &cell, double total_charge, const std::string &kspace,
                      double accuracy, bool mean_correction, bool forces, bool virials, bool born,
                      const nb::object &response) {
        qnep::EvaluationOptions options;
        options.total_charge = total_charge;
        options.kspace = kspace;
        options.accuracy = accuracy;
        options.mean_correction = mean_correction;
        options.wants_forces = forces;
        options.wants_atom_virials = virials;
        options.wants_born_charges = born;
        if (!response.is_none()) options.charge_response = call_back(response, positions.shape(0));
        return to_dict(alone(positions, [&] { return evaluator_.evaluate(positions.data(), to_cell(cell), options); }));
    }

    nb::object descriptors(const Positions &positions, const CellArray &cell) {
        const std::size_t n = positions.shape(0);
        const std::size_t n_descriptors = evaluator_.model().n_descriptors();
        std::vector<double> values =
            alone(positions, [&] { return evaluator_.descriptors(positions.data(), to_cell(cell)); });
        return to_numpy(std::move(values), {n, n_descriptors});
    }

    nb::object tensor(const Positions &positions, const CellArray &cell) {
        std::vector<double> values =
            alone(positions, [&] { return evaluator_.tensor(positions.data(), to_cell(cell)); });
        if (values.size() == 3) return to_numpy(std::move(values), {3});
        return to_numpy(std::move(values), {3, 3});
    }

    std::string simd() const { return evaluator_.simd(); }
    std::string describe_kspace() const { return evaluator_.describe_kspace(); }
    std::size_t memory() const { return evaluator_.memory(); }

private:
    using Lock = std::lock_guard<std::recursive_mutex>;  // recursive: a charge response may ask for descriptors

    template <class Function>
    std::invoke_result_t<Function> alone(const Positions &positions, const Function &function) {
        nb::gil_scoped_release release;
        const Lock lock(mutex_);
        check(positions);
        return function();
    }

    static qnep::Precision precision_from_name(const std::string &name) {
        if (name == "double") return qnep::Precision::double_precision;
        if (name == "single") return qnep::Precision::single_precision;
        throw qnep::InputError("precision must be double or single, got '" + name + "'");
    }

    void check(const Positions &positions) const {
        if (positions.shape(0) != static_cast<std::size_t>(evaluator_.n_atoms()) || evaluator_.n_atoms() == 0) {
            throw qnep::InputError("positions must have shape (" + std::to_string(evaluator_.n_atoms()) +
                                   ", 3) as in set_neighbors, got (" + std::to_string(positions.shape(0)) + ", 3)");
        }
    }

    static nb::dict to_dict(qnep::Evaluation &&result) {
        const std::size_t n = result.energies.size();
        nb::dict values;
        values["energy"] = result.energy;
        values["energies"] = to_numpy(std::move(result.energies), {n});
        const auto put = [&](const char *name, std::vector<double> &data, std::initializer_list<std::size_t> shape) {
            if (!data.empty()) values[name] = to_numpy(std::move(data), shape);
        };
        put("forces", result.forces, {n, 3});
        put("virial", result.virial, {3, 3});
        put("virials", result.atom_virials, {n, 3, 3});
        put("charges", result.charges, {n});
        put("potentials", result.potentials, {n});
        put("born_charges", result.born_charges, {n, 3, 3});
        return values;
    }

    std::recursive_mutex mutex_;
    qnep::PeriodicEvaluator evaluator_;
};

void bind_model(nb::module_ &module) {
    using qnep::Model;
    nb::class_<Model>(module, "Model", "A NEP or qNEP model: settings and parameters in the order of nep.txt.")
        .def(nb::init<>())
        .def(nb::init<const Model &>(), "other"_a, "A copy.")
        .def_static(
            "read", [](const std::filesystem::path &path) { return qnep::read_model(path.string()); }, "path"_a,
            "Read a model file (nep.txt). Raises ModelError naming file, line, what was wanted and what came.")
        .def_static("parse", &qnep::parse_model, "text"_a, "name"_a,
                    "Parse the text of a model file; `name` stands for the file in messages.")
        .def(
            "write",
            [](const Model &model, const std::filesystem::path &path) { qnep::write_model(model, path.string()); },
            "path"_a, "Write a model file; reading it returns the same doubles.")
        .def("format", &qnep::format_model, "The text of the model file.")
        .def("check", &Model::check, "Raise ModelError if settings or parameters are inconsistent or not finite.")
        .def_rw("version", &Model::version)
        .def_rw("charge_mode", &Model::charge_mode)
        .def_rw("has_temperature", &Model::has_temperature)
        .def_rw("elements", &Model::elements)
        .def_rw("zbl_inner_cutoff", &Model::zbl_inner_cutoff)
        .def_rw("zbl_outer_cutoff", &Model::zbl_outer_cutoff)
        .def_rw("zbl_typewise_factor", &Model::zbl_typewise_factor)
        .def_rw("radial_cutoffs", &Model::radial_cutoffs)
        .def_rw("angular_cutoffs", &Model::angular_cutoffs)
        .def_rw("has_uniform_cutoffs", &Model::has_uniform_cutoffs)
        .def_rw("max_radial_neighbors", &Model::max_radial_neighbors)
        .def_rw("max_angular_neighbors", &Model::max_angular_neighbors)
        .def_rw("n_max_radial", &Model::n_max_radial)
        .def_rw("n_max_angular", &Model::n_max_angular)
        .def_rw("basis_size_radial", &Model::basis_size_radial)
        .def_rw("basis_size_angular", &Model::basis_size_angular)
        .def_rw("l_max", &Model::l_max)
        .def_rw("invariants", &Model::invariants)
        .def_rw("n_neurons", &Model::n_neurons)
        .def_prop_rw(
            "kind", [](const Model &model) { return kind_name(model.kind); },
            [](Model &model, const std::string &name) {
                model.kind = enum_from_name<qnep::ModelKind>(name, 3, kind_name, "kind");
            })
        .def_prop_rw(
            "zbl", [](const Model &model) { return zbl_name(model.zbl); },
            [](Model &model, const std::string &name) {
                model.zbl = enum_from_name<qnep::ZblForm>(name, 4, zbl_name, "zbl");
            })
        .def_prop_rw(
            "parameters",
            [](const Model &model) {
                return to_numpy(std::vector<double>(model.parameters), {model.parameters.size()});
            },
            [](Model &model, const Numbers &values) {
                model.parameters.assign(values.data(), values.data() + values.shape(0));
            },
            "A copy of all numbers after the header, in file order; assign to change them.")
        .def_prop_ro("token", &Model::token)
        .def_prop_ro("n_types", &Model::n_types)
        .def_prop_ro("n_angular_blocks", &Model::n_angular_blocks)
        .def_prop_ro("n_descriptors", &Model::n_descriptors)
        .def_prop_ro("n_outputs", &Model::n_outputs)
        .def_prop_ro("n_networks", &Model::n_networks)
        .def_prop_ro("n_parameters", &Model::n_parameters)
        .def_prop_ro("network_size", &Model::network_size)
        .def_prop_ro("sqrt_epsilon_offset", &Model::sqrt_epsilon_offset)
        .def_prop_ro("radial_offset", &Model::radial_offset)
        .def_prop_ro("angular_offset", &Model::angular_offset)
        .def_prop_ro("scaler_offset", &Model::scaler_offset)
        .def_prop_ro("zbl_offset", &Model::zbl_offset)
        .def_prop_ro("largest_cutoff", &Model::largest_cutoff)
        .def_prop_ro("ewald_alpha", &Model::ewald_alpha)
        .def("network_offset", &Model::network_offset, "type"_a, "set"_a = 0)
        .def("bias_offset", &Model::bias_offset, "set"_a = 0)
        .def("__repr__", [](const Model &model) { return "<Model " + model.token() + ">"; })
        .def("__getstate__", [](const Model &model) { return qnep::format_model(model); })
        .def("__setstate__", [](Model &model, const std::string &text) {
            new (&model) Model(qnep::parse_model(text, "a pickled model"));
        });
}

void bind_evaluator(nb::module_ &module) {
    nb::class_<Evaluator>(module, "Evaluator", "Evaluates a model on one system at a time.")
        .def(nb::init<const qnep::Model &, const std::string &, const std::string &, int, double>(), "model"_a,
             "precision"_a = "double", "simd"_a = "auto", "n_threads"_a = 1, "temperature"_a = 0.0)
        .def("set_neighbors", &Evaluator::set_neighbors, "n_atoms"_a, "types"_a, "first"_a, "second"_a, "shifts"_a,
             "Take types [n] and pairs with periodic shifts [p, 3], both directions listed; a skin is welcome.")
        .def("evaluate", &Evaluator::evaluate, "positions"_a, "cell"_a, "total_charge"_a = 0.0, "kspace"_a = "auto",
             "accuracy"_a = qnep::EvaluationOptions{}.accuracy, "mean_correction"_a = true, "forces"_a = true,
             "virials"_a = false, "born"_a = false, "response"_a = nb::none(),
             "Energies, forces, virial, charges in eV, Å and e as a dictionary of arrays.")
        .def("descriptors", &Evaluator::descriptors, "positions"_a, "cell"_a, "Unscaled descriptors [n, dim].")
        .def("tensor", &Evaluator::tensor, "positions"_a, "cell"_a, "Dipole [3] or polarizability [3, 3].")
        .def("describe_kspace", &Evaluator::describe_kspace)
        .def_prop_ro("simd", &Evaluator::simd)
        .def_prop_ro("memory", &Evaluator::memory, "Bytes of the neighbour list.");
}

}  // namespace

NB_MODULE(_core, module) {
    nb::exception<qnep::ModelError>(module, "ModelError", PyExc_ValueError);
    nb::exception<qnep::InputError>(module, "InputError", PyExc_ValueError);
    bind_model(module);
    bind_evaluator(module);
    bind_electrostatics(module);
    bind_electrode(module);
    bind_train(module);
    module.def("available_simd", &qnep::available_simd, "Instruction sets of this processor, slowest first.");
    module.def("atomic_number", &qnep::atomic_number, "symbol"_a, "0 if there is no such element.");
}
