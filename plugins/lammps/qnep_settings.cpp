#include "qnep_settings.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "error.h"
#include "keyword_table.h"
#include "lammps.h"
#include "utils.h"

namespace LAMMPS_NS {

namespace {

/// Hands out the arguments of one keyword, checked.
class Arguments {
public:
    Arguments(LAMMPS *lammps, int narg, char **arg): lammps_(lammps), narg_(narg), arg_(arg) {}

    bool is_done() const { return next_ >= narg_; }

    std::string keyword() {
        keyword_ = arg_[next_++];
        return keyword_;
    }

    std::string word(const char *wanted) {
        if (is_done()) {
            fail(wanted, "nothing");
        }
        return arg_[next_++];
    }

    double number(const char *wanted, const std::function<bool(double)> &is_valid) {
        const std::string text = word(wanted);
        const double value = utils::is_double(text) ? std::stod(text) : NAN;
        if (!is_valid(value)) {
            fail(wanted, text);
        }
        return value;
    }

    int integer(const char *wanted, int lowest, int highest) {
        const std::string text = word(wanted);
        const bool is_number = utils::is_integer(text) && text.size() < 10;
        if (!is_number || std::stoi(text) < lowest || std::stoi(text) > highest) {
            fail(wanted, text);
        }
        return std::stoi(text);
    }

    bool yes_or_no() {
        const std::string text = one_of({"yes", "no"}, "yes or no");
        return text == "yes";
    }

    std::string one_of(const std::vector<std::string> &choices, const char *wanted) {
        const std::string text = word(wanted);
        if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
            fail(wanted, text);
        }
        return text;
    }

    [[noreturn]] void fail(const std::string &wanted, const std::string &found) const {
        lammps_->error->all(FLERR, "pair_style qnep, keyword {}: wanted {}, got {}", keyword_, wanted, found);
    }

private:
    LAMMPS *lammps_;
    int narg_;
    char **arg_;
    int next_ = 0;
    std::string keyword_;
};

void read_kspace(QNEPSettings &settings, Arguments &arguments) {
    static const std::map<std::string, KSpaceMethod> methods{
        {"pppm", KSpaceMethod::pppm}, {"ewald", KSpaceMethod::ewald}, {"direct", KSpaceMethod::direct}};
    const auto method =
        methods.find(arguments.one_of({"pppm", "ewald", "direct"}, "pppm ACCURACY, ewald ACCURACY or direct"));
    settings.kspace = method->second;
    if (settings.kspace != KSpaceMethod::direct) {
        settings.kspace_accuracy = arguments.number("an accuracy between 1e-12 and 0.1",
                                                    [](double value) { return value >= 1.0e-12 && value <= 0.1; });
    }
}

void read_mesh(QNEPSettings &settings, Arguments &arguments) {
    for (int &points : settings.mesh) {
        points = arguments.integer("three numbers of mesh points between 2 and 8192", 2, 8192);
    }
}

void read_deviation(QNEPSettings &settings, Arguments &arguments) {
    settings.deviation_file = arguments.word("a file name and an interval in steps");
    settings.deviation_interval = arguments.integer("an interval of at least 1 step", 1, 999999999);
}

void read_grade(QNEPSettings &settings, Arguments &arguments) {
    const char *const wanted = "an active-set file, a file name and an interval in steps";
    settings.active_set_file = arguments.word(wanted);
    settings.grade_file = arguments.word(wanted);
    settings.grade_interval = arguments.integer("an interval of at least 1 step", 1, 999999999);
}

const char *const slab_wanted = "a factor of at least 1.5 by which the box is extended in z";

using Reader = std::function<void(QNEPSettings &, Arguments &)>;

const std::map<std::string, Reader> &keyword_table() {
    static const auto is_finite = [](double value) { return std::isfinite(value); };
    static const std::map<std::string, Reader> table{
        {"kspace", read_kspace},
        {"order", [](QNEPSettings &s, Arguments &a) { s.mesh_order = a.integer("an order from 2 to 7", 2, 7); }},
        {"mesh", read_mesh},
        {"slab",
         [](QNEPSettings &s, Arguments &a) {
             s.slab_factor = a.number(slab_wanted, [](double value) { return value >= 1.5 && value <= 100.0; });
         }},
        {"charge", [](QNEPSettings &s, Arguments &a) { s.total_charge = a.number("a total charge in e", is_finite); }},
        {"net_force",
         [](QNEPSettings &s, Arguments &a) {
             s.removes_net_force = a.one_of({"remove", "keep"}, "remove or keep") == "remove";
         }},
        {"mean_correction", [](QNEPSettings &s, Arguments &a) { s.corrects_mean = a.yes_or_no(); }},
        {"deviation", read_deviation},
        {"deviation_append", [](QNEPSettings &s, Arguments &a) { s.appends_deviation = a.yes_or_no(); }},
        {"grade", read_grade},
        {"temperature",
         [](QNEPSettings &s, Arguments &a) {
             s.potential.temperature =
                 a.number("a temperature in K, not negative", [](double value) { return value >= 0.0 && value < 1e9; });
             s.has_temperature = true;
         }},
        {"precision",
         [](QNEPSettings &s, Arguments &a) {
             s.potential.precision = a.one_of({"double", "single"}, "double or single") == "single"
                                         ? qnep::Precision::single_precision
                                         : qnep::Precision::double_precision;
         }},
        {"timing", [](QNEPSettings &s, Arguments &a) { s.shows_timing = a.yes_or_no(); }},
    };
    return table;
}

/// Combinations that no single keyword can see.
void check_together(LAMMPS *lammps, const QNEPSettings &settings) {
    if (settings.has_slab() && settings.total_charge != 0.0) {
        lammps->error->all(FLERR,
                           "pair_style qnep: slab wants a neutral system, got charge {}: the dipole of a charged "
                           "slab depends on the origin",
                           settings.total_charge);
    }
    if (settings.has_slab() && settings.kspace == KSpaceMethod::direct) {
        lammps->error->all(FLERR, "pair_style qnep: slab wants kspace pppm or ewald, got kspace direct");
    }
    const bool has_mesh_options = settings.mesh_order != 0 || settings.mesh[0] != 0;
    if (has_mesh_options && settings.kspace != KSpaceMethod::pppm) {
        lammps->error->all(FLERR, "pair_style qnep: order and mesh want kspace pppm");
    }
}

}  // namespace

QNEPSettings parse_qnep_settings(LAMMPS *lammps, int narg, char **arg) {
    QNEPSettings settings;
    Arguments arguments(lammps, narg, arg);
    while (!arguments.is_done()) {
        const std::string keyword = arguments.keyword();
        const Reader &read = find_reader(lammps, "pair_style qnep", keyword_table(), keyword);
        read(settings, arguments);
    }
    check_together(lammps, settings);
    return settings;
}

}  // namespace LAMMPS_NS
