#include "conp_settings.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "atom.h"
#include "error.h"
#include "group.h"
#include "keyword_table.h"
#include "lammps.h"
#include "model.h"
#include "utils.h"

namespace LAMMPS_NS {

namespace {

/// Hands out the arguments one by one, checked.
class Arguments {
public:
    Arguments(LAMMPS *lammps, int narg, char **arg): lammps_(lammps), words_(arg, arg + narg) {}

    bool is_done() const { return next_ >= words_.size(); }
    bool next_is(const std::string &word) const { return !is_done() && words_[next_] == word; }
    bool next_is_number() const { return !is_done() && utils::is_double(words_[next_]); }
    bool next_is_element() const { return !is_done() && qnep::atomic_number(words_[next_]) > 0; }
    LAMMPS *lammps() const { return lammps_; }

    void begin(const std::string &keyword) { keyword_ = keyword; }

    std::string word(const std::string &wanted) {
        if (is_done()) {
            fail(wanted, "nothing");
        }
        return words_[next_++];
    }

    double number(const std::string &wanted, const std::function<bool(double)> &is_valid) {
        const std::string text = word(wanted);
        const double value = utils::is_double(text) ? std::stod(text) : NAN;
        if (!is_valid(value)) {
            fail(wanted, text);
        }
        return value;
    }

    std::string one_of(const std::vector<std::string> &choices, const std::string &wanted) {
        const std::string text = word(wanted);
        if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
            fail(wanted, text);
        }
        return text;
    }

    int group_bit() {
        const std::string name = word("the name of a group");
        const int index = lammps_->group->find(name);
        if (index < 0) {
            fail("the name of a group", name);
        }
        return lammps_->group->bitmask[index];
    }

    [[noreturn]] void fail(const std::string &wanted, const std::string &found) const {
        lammps_->error->all(FLERR, "fix qnep/conp, {}: wanted {}, got {}", keyword_, wanted, found);
    }

private:
    LAMMPS *lammps_;
    std::vector<std::string> words_;
    std::size_t next_ = 0;
    std::string keyword_ = "scheme";
};

bool is_finite(double value) {
    return std::isfinite(value);
}
bool is_positive(double value) {
    return value > 0.0 && std::isfinite(value);
}

/// What is collected before it is known whether it fits together.
struct Collected {
    ConpSettings settings;
    std::map<std::string, qnep::ChargeParameters> parameters;
    std::vector<std::string> metal;
    int n_groups = 0;
    int always_bit = 0;
    bool has_planes = false;
};

void read_electrode(Collected &all, Arguments &arguments) {
    qnep::Electrode electrode;
    electrode.name = arguments.word("a name, potential or charge, and a value");
    arguments.begin("keyword electrode " + electrode.name);
    electrode.holds_charge = arguments.one_of({"potential", "charge"}, "potential or charge") == "charge";
    std::string variable;
    if (!arguments.is_done() && !arguments.next_is_number()) {
        const std::string text = arguments.word("a number or v_name");
        if (!utils::strmatch(text, "^v_.")) {
            arguments.fail("a number or v_name of an equal-style variable", text);
        }
        variable = text.substr(2);
    } else {
        electrode.value = arguments.number("a number or v_name of an equal-style variable", is_finite);
    }
    int bit = 0;
    if (arguments.next_is("group")) {
        arguments.word("group");
        bit = arguments.group_bit();
        ++all.n_groups;
    }
    all.settings.options.electrodes.push_back(electrode);
    all.settings.variables.push_back(variable);
    all.settings.group_bits.push_back(bit);
}

void read_metal(Collected &all, Arguments &arguments) {
    do {
        const std::string element = arguments.word("symbols of metals");
        if (qnep::atomic_number(element) == 0) {
            arguments.fail("symbols of metals", element);
        }
        all.metal.push_back(element);
    } while (arguments.next_is_element());
}

void read_switch(std::array<double, 2> &limits, Arguments &arguments) {
    for (double &limit : limits) {
        limit = arguments.number("two positive numbers, ascending", is_positive);
    }
    if (!(limits[1] > limits[0])) {
        arguments.fail("two positive numbers, ascending", fmt::format("{} {}", limits[0], limits[1]));
    }
}

void read_planes(Collected &all, Arguments &arguments) {
    all.has_planes = true;
    do {
        all.settings.options.membership.planes.push_back(
            arguments.number("fractions of the cell vector that divide the electrodes, one less than electrodes",
                             [](double value) { return value > -0.5 && value < 1.5; }));
    } while (arguments.next_is_number());
}

void read_slab(Collected &all, Arguments &arguments) {
    static const std::map<std::string, int> axes{{"x", 0}, {"y", 1}, {"z", 2}, {"none", -1}};
    all.settings.options.slab_axis = axes.at(arguments.one_of({"x", "y", "z", "none"}, "x, y, z or none"));
}

void read_parameters(Collected &all, Arguments &arguments) {
    const char *const wanted =
        "an element, electronegativity (V), hardness (V/e) and width (Angstrom), the last two positive";
    const std::string element = arguments.word(wanted);
    if (qnep::atomic_number(element) == 0) {
        arguments.fail(wanted, element);
    }
    qnep::ChargeParameters &of = all.parameters[element];
    of.electronegativity = arguments.number(wanted, is_finite);
    of.hardness = arguments.number(wanted, is_positive);
    of.width = arguments.number(wanted, is_positive);
}

void read_kspace(Collected &all, Arguments &arguments) {
    all.settings.options.kspace =
        arguments.one_of({"auto", "ewald", "pppm"}, "auto, ewald or pppm, and perhaps an accuracy");
    if (arguments.next_is_number()) {
        all.settings.options.accuracy = arguments.number("an accuracy between 1e-9 and 0.1 eV/Angstrom",
                                                         [](double value) { return value >= 1e-9 && value <= 0.1; });
    }
}

using Reader = std::function<void(Collected &, Arguments &)>;

const std::map<std::string, Reader> &keyword_table() {
    static const std::map<std::string, Reader> table{
        {"electrode", read_electrode},
        {"metal", read_metal},
        {"distances", [](Collected &c, Arguments &a) { read_switch(c.settings.options.membership.distances, a); }},
        {"counts", [](Collected &c, Arguments &a) { read_switch(c.settings.options.membership.counts, a); }},
        {"planes", read_planes},
        {"plane_width",
         [](Collected &c, Arguments &a) {
             c.settings.options.membership.plane_width =
                 a.number("a fraction between 0 and 0.5", [](double value) { return value > 0.0 && value < 0.5; });
         }},
        {"always", [](Collected &c, Arguments &a) { c.always_bit = a.group_bit(); }},
        {"slab", read_slab},
        {"parameters", read_parameters},
        {"kspace", read_kspace},
        {"tolerance",
         [](Collected &c, Arguments &a) {
             c.settings.options.tolerance = a.number("a positive charge in e", is_positive);
         }},
        {"max_iterations",
         [](Collected &c, Arguments &a) {
             c.settings.options.max_iterations = static_cast<int>(
                 a.number("a number between 1 and 100000", [](double value) { return value >= 1 && value <= 1e5; }));
         }},
        {"charge", [](Collected &c,
                      Arguments &a) { c.settings.options.total_charge = a.number("a total charge in e", is_finite); }},
    };
    return table;
}

void set_parameters(Collected &all, LAMMPS *lammps) {
    qnep::ElectrodeOptions &options = all.settings.options;
    std::map<std::string, qnep::ChargeParameters> known;
    for (const auto &entry : qnep::known_charge_parameters) {
        known[entry.element] = entry.parameters;
    }
    for (const auto &entry : all.parameters) {
        known[entry.first] = entry.second;
    }
    const bool needs_all = options.scheme == qnep::ElectrodeScheme::equilibrated;
    for (std::size_t t = 0; t < options.elements.size(); ++t) {
        const std::string &element = options.elements[t];
        const bool is_needed = needs_all || options.membership.is_metal[t] || all.n_groups > 0;
        if (is_needed && known.find(element) == known.end()) {
            lammps->error->all(FLERR,
                               "fix qnep/conp: wanted charge parameters for {}, got none; give them as: parameters {} "
                               "ELECTRONEGATIVITY HARDNESS WIDTH",
                               element, element);
        }
        const auto found = known.find(element);
        options.parameters.push_back(found != known.end() ? found->second : qnep::ChargeParameters{0.0, 1.0, 1.0});
    }
}

/// Combinations that no single keyword can see.
void set_membership(Collected &all, LAMMPS *lammps) {
    ConpSettings &settings = all.settings;
    qnep::MembershipOptions &membership = settings.options.membership;
    const auto n_electrodes = static_cast<int>(settings.options.electrodes.size());
    membership.n_electrodes = n_electrodes;
    membership.axis = std::max(settings.options.slab_axis, 0);
    for (const std::string &element : settings.options.elements) {
        membership.is_metal.push_back(std::find(all.metal.begin(), all.metal.end(), element) != all.metal.end());
    }
    if (n_electrodes == 0) {
        lammps->error->all(FLERR, "fix qnep/conp: wanted at least one keyword electrode, got none");
    }
    if (all.n_groups > 0) {
        if (all.n_groups < n_electrodes || !all.metal.empty() || all.has_planes || all.always_bit != 0) {
            lammps->error->all(FLERR, "fix qnep/conp: wanted either a group for every electrode, or none and the "
                                      "keyword metal (with planes, always), got a mixture");
        }
        membership.has_fixed_groups = true;
        return;
    }
    if (all.metal.empty()) {
        lammps->error->all(FLERR,
                           "fix qnep/conp: wanted a group for every electrode or the keyword metal, got neither");
    }
    for (const std::string &element : all.metal) {
        const auto &elements = settings.options.elements;
        if (std::find(elements.begin(), elements.end(), element) == elements.end()) {
            lammps->error->all(FLERR, "fix qnep/conp, keyword metal: wanted elements of the atom types, got {}",
                               element);
        }
    }
    settings.group_bits.assign(all.always_bit != 0 ? 1 : 0, all.always_bit);
}

}  // namespace

ConpSettings parse_conp_settings(LAMMPS *lammps, int narg, char **arg) {
    Collected all;
    Arguments arguments(lammps, narg, arg);
    const bool is_induced = arguments.one_of({"induced", "equilibrated"}, "induced or equilibrated") == "induced";
    all.settings.options.scheme = is_induced ? qnep::ElectrodeScheme::induced : qnep::ElectrodeScheme::equilibrated;
    arguments.begin("elements");
    const std::string wanted = fmt::format("{} element(s), one for each atom type", lammps->atom->ntypes);
    for (int type = 0; type < lammps->atom->ntypes; ++type) {
        const std::string element = arguments.word(wanted);
        if (qnep::atomic_number(element) == 0) {
            arguments.fail(wanted, element);
        }
        all.settings.options.elements.push_back(element);
    }
    while (!arguments.is_done()) {
        const std::string keyword = arguments.word("a keyword");
        const Reader &read = find_reader(lammps, "fix qnep/conp", keyword_table(), keyword);
        arguments.begin("keyword " + keyword);
        read(all, arguments);
    }
    set_membership(all, lammps);
    set_parameters(all, lammps);
    return all.settings;
}

}  // namespace LAMMPS_NS
