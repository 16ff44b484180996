#include "electrodes.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "constants.h"
#include "electrostatics_cell.h"
#include "elements.h"
#include "model.h"

namespace qnep {
namespace {

constexpr double smallest_vacuum = 5.0;   // Å; nearer than this the two outer surfaces touch through the boundary
constexpr double bond_factor = 1.25;      // of the sum of covalent radii: nearer, two electrodes are one piece of metal
constexpr double smallest_weight = 1e-8;  // below, an induced charge is of this order
constexpr double skin = 0.6;              // Å, of pair lists

double covalent_radius(const std::string &element) {
    const int number = atomic_number(element);
    return number > 0 ? covalent_radii[number - 1] : 0.0;
}

double longest_contact(const std::vector<std::string> &elements) {
    double radius = 0.1;
    for (const auto &element : elements)
        radius = std::max(radius, covalent_radius(element));
    return 2.0 * bond_factor * radius;
}

std::string text(double value) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%g", value);
    return buffer;
}

}  // namespace

ElectrodeCell::ElectrodeCell(const ElectrodeOptions &options):
    options_(options), membership_(options.membership), contacts_(longest_contact(options.elements), skin) {
    check_settings();
    check_held_charges();
}

/// Apart from the other settings: of several electrodes one after the other gets its charge of this step.
void ElectrodeCell::check_held_charges() const {
    double held = 0.0;
    bool all_held = true;
    for (const Electrode &electrode : options_.electrodes) {
        all_held = all_held && electrode.holds_charge;
        held += electrode.holds_charge ? electrode.value : 0.0;
    }
    constexpr double rounding = 1.0e-9;  // e
    if (options_.slab_axis >= 0 && all_held && std::abs(held) > rounding) {
        throw InputError("charges of all electrodes must sum to zero, got " + text(held) + " e");
    }
}

void ElectrodeCell::check_settings() const {
    std::set<std::string> names;
    for (const Electrode &electrode : options_.electrodes) {
        names.insert(electrode.name);
        if (!std::isfinite(electrode.value)) {
            throw InputError("electrode " + electrode.name + " needs a finite value, got " + text(electrode.value));
        }
    }
    if (names.empty() || names.size() < options_.electrodes.size()) {
        throw InputError("electrodes need different names and at least one, got " +
                         std::to_string(options_.electrodes.size()) + " with " + std::to_string(names.size()) +
                         " different names");
    }
    const bool is_slab = options_.slab_axis >= 0;
    if (names.size() > 1 && !is_slab) {
        throw InputError("several electrodes in a cell that is periodic along its normal meet through the boundary: "
                         "give a slab axis and put vacuum behind them");
    }
    if (is_slab && options_.total_charge != 0.0) {
        throw InputError("a cell with a slab axis must be neutral, its dipole has no meaning otherwise; got " +
                         text(options_.total_charge) + " e");
    }
    for (std::size_t t = 0; t < options_.elements.size(); ++t) {
        const ChargeParameters &of = options_.parameters[t];
        if (!(of.hardness > 0.0 && of.width > 0.0 && std::isfinite(of.hardness) && std::isfinite(of.width))) {
            throw InputError("hardness and width must be positive, got " + text(of.hardness) + " and " +
                             text(of.width) + " for " + options_.elements[t]);
        }
    }
}

double ElectrodeCell::metal(int i) const {
    double sum = 0.0;
    for (int e = 0; e < weights_.n_electrodes; ++e)
        sum += weights_.value(e, i);
    return sum;
}

void ElectrodeCell::set_value(int electrode, double value) {
    options_.electrodes[electrode].value = value;
    check_settings();
}

std::string ElectrodeCell::kspace_for(double alpha) const {
    if (options_.kspace != "auto") return options_.kspace;
    return ewald_is_faster(alpha, n_, cell_, options_.accuracy) ? "ewald" : "pppm";
}

std::unique_ptr<ChargeEquilibration> ElectrodeCell::make_solver(double alpha, double cutoff) const {
    EquilibrationOptions options;
    options.alpha = alpha;
    options.cutoff = cutoff;
    options.kspace = kspace_for(alpha);
    options.accuracy = options_.accuracy;
    options.n_threads = options_.n_threads;
    options.slab_axis = options_.slab_axis;
    options.tolerance = options_.tolerance;
    options.max_iterations = options_.max_iterations;
    options.share = options_.share;
    return std::make_unique<ChargeEquilibration>(options);
}

void ElectrodeCell::set_atoms(int n, const double *positions, const Cell &cell, const int *types, const int *groups) {
    for (std::size_t k = 0; k < 3 * std::size_t(n); ++k) {
        if (!std::isfinite(positions[k])) throw InputError("positions must be finite, got " + text(positions[k]));
    }
    check_held_charges();
    n_ = n;
    cell_ = cell;
    types_.assign(types, types + n);
    unwrap(positions);
    set_slab();
    weights_ = membership_.compute(n, positions_.data(), fractions_.data(), cell, types, groups);
    check_memberships();
    result_ = ElectrodeResult();
}

// Moves atoms by whole cell vectors along the slab axis so that the widest gap lies at the boundary of the cell;
// fractions then lie within one unit. It holds the planes between the electrodes, else it starts in -0.5 ... 0.5.
void ElectrodeCell::unwrap(const double *positions) {
    positions_.assign(positions, positions + 3 * std::size_t(n_));
    fractions_.assign(n_, 0.0);
    const int axis = options_.slab_axis;
    if (axis < 0 || n_ == 0) return;
    const ReciprocalCell geometry(cell_);
    const auto &inverse = geometry.inverse[axis];
    std::vector<double> ordered(n_);
    for (int i = 0; i < n_; ++i) {
        const double *x = positions + 3 * std::size_t(i);
        fractions_[i] = inverse[0] * x[0] + inverse[1] * x[1] + inverse[2] * x[2];
        ordered[i] = fractions_[i] - std::floor(fractions_[i]);
    }
    std::sort(ordered.begin(), ordered.end());
    double widest = -1.0, start = 0.0;
    for (int i = 0; i < n_; ++i) {
        const double gap = (i + 1 < n_ ? ordered[i + 1] : ordered[0] + 1.0) - ordered[i];
        if (gap > widest) {
            widest = gap;
            start = ordered[i] + 0.5 * gap;
        }
    }
    if (widest * geometry.thicknesses[axis] < smallest_vacuum) {
        throw InputError("the slab correction needs at least " + text(smallest_vacuum) +
                         " Å of vacuum along cell vector " + std::to_string(axis) + ", the widest gap is " +
                         text(widest * geometry.thicknesses[axis]) + " Å. Make the cell longer in this direction");
    }
    const std::vector<double> &planes = options_.membership.planes;
    start += planes.empty() ? -std::floor(start + 0.5) : std::floor(0.5 * (planes.front() + planes.back()) - start);
    for (int i = 0; i < n_; ++i) {
        const double shift = -std::floor(fractions_[i] - start);
        fractions_[i] += shift;
        for (int c = 0; c < 3; ++c)
            positions_[3 * std::size_t(i) + c] += shift * cell_[axis][c];
    }
}

void ElectrodeCell::set_slab() {
    heights_.clear();
    const ReciprocalCell geometry(cell_);
    volume_ = geometry.volume;
    if (options_.slab_axis < 0) return;
    for (int c = 0; c < 3; ++c)
        normal_[c] = geometry.inverse[options_.slab_axis][c] * geometry.thicknesses[options_.slab_axis];
    heights_.resize(n_);
    for (int i = 0; i < n_; ++i) {
        const double *x = &positions_[3 * std::size_t(i)];
        heights_[i] = normal_[0] * x[0] + normal_[1] * x[1] + normal_[2] * x[2];
    }
}

// Every electrode has atoms, and no bond leads from one to another.
void ElectrodeCell::check_memberships() {
    std::vector<int> owner, member;
    contact_positions_.clear();
    std::vector<int> sizes(options_.electrodes.size(), 0);
    for (int i = 0; i < n_; ++i) {
        for (std::size_t e = 0; e < sizes.size(); ++e) {
            if (!(weights_.value(static_cast<int>(e), i) > 0.5)) continue;
            ++sizes[e];
            owner.push_back(static_cast<int>(e));
            member.push_back(i);
            contact_positions_.insert(contact_positions_.end(), &positions_[3 * std::size_t(i)],
                                      &positions_[3 * std::size_t(i)] + 3);
        }
    }
    for (std::size_t e = 0; e < sizes.size(); ++e) {
        if (sizes[e] == 0) {
            throw InputError("no atom belongs to electrode " + options_.electrodes[e].name +
                             ": look at the metal's elements, distances, counts and planes, or at the groups");
        }
    }
    if (sizes.size() < 2) return;
    contacts_.update(static_cast<int>(member.size()), contact_positions_.data(), cell_);
    for (std::size_t p = 0; p < contacts_.size(); ++p) {
        const int a = contacts_.first()[p], b = contacts_.second()[p];
        if (owner[a] == owner[b]) continue;
        const auto r = pair_vector(contact_positions_.data(), cell_, a, b, &contacts_.shifts()[3 * p]);
        const double distance = std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
        const double radii = covalent_radius(options_.elements[types_[member[a]]]) +
                             covalent_radius(options_.elements[types_[member[b]]]);
        if (distance < bond_factor * radii) {
            throw InputError("electrodes " + options_.electrodes[std::min(owner[a], owner[b])].name + " and " +
                             options_.electrodes[std::max(owner[a], owner[b])].name + " touch: " + text(distance) +
                             " Å between their atoms");
        }
    }
}

// Of charges [n] in the model's reciprocal sum, with the slab term.
ElectrodeCell::Fields ElectrodeCell::fields(const std::vector<double> &charges, bool wants_forces) {
    Fields fields;
    const WorkShare &share = options_.share;
    const int begin = share.begin(n_), end = share.end(n_);
    fields.potentials.assign(n_, 0.0);
    ReciprocalOutput output;
    output.potentials = fields.potentials.data() + begin;
    if (wants_forces) {
        fields.forces.assign(3 * std::size_t(n_), 0.0);
        output.forces = fields.forces.data() + 3 * std::size_t(begin);
        output.virial = fields.virial.data();
    }
    fields.energy =
        reciprocal_->compute(end - begin, &positions_[3 * std::size_t(begin)], charges.data() + begin, output);
    share.add_up(fields.potentials.size(), fields.potentials.data());
    share.add_up(fields.forces.size(), fields.forces.data());
    if (!heights_.empty()) add_slab(fields, charges);
    return fields;
}

// Yeh and Berkowitz, J. Chem. Phys. 111, 3155 (1999), doi:10.1063/1.479595: E = 2 pi K (M.n)^2/V.
void ElectrodeCell::add_slab(Fields &fields, const std::vector<double> &charges) const {
    const double dipole = std::inner_product(charges.begin(), charges.end(), heights_.begin(), 0.0);
    const double scale = 2.0 * pi * coulomb_constant / volume_, energy = scale * dipole * dipole;
    fields.energy += energy;
    for (int i = 0; i < n_; ++i)
        fields.potentials[i] += 2.0 * scale * dipole * heights_[i];
    for (std::size_t k = 0; k < fields.forces.size(); ++k)
        fields.forces[k] -= 2.0 * scale * dipole * charges[k / 3] * normal_[k % 3];
    for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b)
            fields.virial[3 * a + b] -= energy * (2.0 * normal_[a] * normal_[b] - (a == b ? 1.0 : 0.0));
    }
}

// Atoms with some weight; the solver learns which of them are new.
void ElectrodeCell::find_active() {
    std::vector<int> active;
    for (int i = 0; i < n_; ++i) {
        if (metal(i) > smallest_weight) active.push_back(i);
    }
    if (active == active_) return;
    std::vector<int> old_index(active.size(), -1);
    for (std::size_t a = 0; a < active.size(); ++a) {
        const auto found = std::lower_bound(active_.begin(), active_.end(), active[a]);
        if (found != active_.end() && *found == active[a]) old_index[a] = static_cast<int>(found - active_.begin());
    }
    solver_->renumber(old_index);
    active_ = std::move(active);
}

const std::vector<double> &ElectrodeCell::respond(const double *charges) {
    const std::size_t n = n_;
    if (n_prepared_ != n_) {
        reciprocal_ = kspace_for(options_.alpha) == "ewald"
                          ? make_ewald(options_.alpha, options_.n_threads, options_.share.sum)
                          : make_pppm(options_.alpha, options_.accuracy, options_.n_threads, options_.share.sum);
        solver_ = make_solver(options_.alpha, 0.0);
        active_.clear();
        n_prepared_ = n_;
    }
    reciprocal_->set_cell(cell_);
    find_active();
    const std::vector<double> of_model(charges, charges + n);
    const double total = std::accumulate(of_model.begin(), of_model.end(), 0.0);
    if (options_.slab_axis >= 0 && std::abs(total) > 1e-6) {
        throw InputError("a cell with a slab axis must be neutral, its dipole has no meaning otherwise; the model's "
                         "charges sum to " +
                         text(total) + " e");
    }
    const InducedSystem system = induced_system();
    const std::size_t n_active = active_.size();

    // Charges at equal potentials follow the ions, whose fast vibrations limit the extrapolation. What the voltage adds
    // depends on the metal alone and changes slowly: a straight line, which does not magnify errors, meets the
    // tolerance.
    const std::vector<double> predicted = histories_[0].predict(n), added = histories_[1].predict(n, 2);
    std::vector<double> guess(n_active);
    for (std::size_t a = 0; a < n_active; ++a)
        guess[a] = predicted[active_[a]];
    const double excess = std::accumulate(guess.begin(), guess.end(), 0.0);
    const double all_metal = std::accumulate(system.metals.begin(), system.metals.end(), 0.0);
    std::vector<double> present(of_model);
    for (std::size_t a = 0; a < n_active; ++a) {
        guess[a] -= excess * system.metals[a] / all_metal;
        present[active_[a]] += guess[a];
    }
    // One sum over all charges gives the gradient at the guess.
    const std::vector<double> acting = fields(present, false).potentials;
    std::vector<double> gradient(n_active);
    for (std::size_t a = 0; a < n_active; ++a)
        gradient[a] = acting[active_[a]] + system.hardnesses[a] * guess[a];
    std::vector<double> derivatives(weights_.values.size(), 0.0);
    const EquilibrationResult connected = solve_induced(system, false, guess, {guess.data(), gradient.data()});
    const std::vector<double> shorted = account_for(system, connected, false, derivatives);
    for (std::size_t a = 0; a < n_active; ++a)
        guess[a] = connected.charges[a] + added[active_[a]];
    const EquilibrationResult driven =
        solve_induced(system, true, guess, {connected.charges.data(), connected.gradient.data()});
    result_.charges = account_for(system, driven, true, derivatives);
    find_largest_charge(result_.charges);

    std::vector<double> biased(of_model), difference(result_.charges), reference(of_model);
    for (std::size_t i = 0; i < n; ++i) {
        biased[i] += result_.charges[i];
        reference[i] += shorted[i];
        difference[i] -= shorted[i];
    }
    Fields with = fields(biased, true);
    const Fields without = fields(reference, true);
    result_.energy += with.energy - without.energy;
    response_ = std::move(with.potentials);
    result_.forces = std::move(with.forces);
    result_.virial = with.virial;
    for (std::size_t i = 0; i < n; ++i)
        response_[i] -= without.potentials[i];
    for (std::size_t k = 0; k < 3 * n; ++k)
        result_.forces[k] -= without.forces[k];
    for (int c = 0; c < 9; ++c)
        result_.virial[c] -= without.virial[c];
    weights_.pull_back(derivatives, result_.forces.data(), result_.virial.data());

    histories_[0].remember(shorted);
    histories_[1].remember(difference);
    std::vector<double> by_voltage(options_.electrodes.size(), 0.0);
    result_.electrode_charges.assign(options_.electrodes.size(), 0.0);
    for (int i : active_) {
        for (int e = 0; e < weights_.n_electrodes; ++e) {
            const double side = weights_.value(e, i) / metal(i);
            result_.electrode_charges[e] += side * result_.charges[i];
            by_voltage[e] += side * difference[i];
        }
    }
    const double voltage = result_.electrode_potentials.back() - result_.electrode_potentials.front();
    if (voltage != 0.0) result_.capacitance = 0.5 * (by_voltage.back() - by_voltage.front()) / voltage;
    return response_;
}

ElectrodeCell::InducedSystem ElectrodeCell::induced_system() const {
    const std::size_t n_active = active_.size();
    InducedSystem system;
    system.sides.resize(options_.electrodes.size() * n_active);
    for (std::size_t a = 0; a < n_active; ++a) {
        const int i = active_[a];
        const double *x = &positions_[3 * std::size_t(i)];
        system.positions.insert(system.positions.end(), x, x + 3);
        system.metals.push_back(metal(i));
        system.hardnesses.push_back(options_.parameters[types_[i]].hardness / system.metals[a]);
        for (std::size_t e = 0; e < options_.electrodes.size(); ++e)
            system.sides[e * n_active + a] = weights_.value(static_cast<int>(e), i) / system.metals[a];
    }
    return system;
}

// Charges [n_active] of electrode atoms at the given values, or with all electrodes connected. What is known is a
// gradient without voltage.
EquilibrationResult ElectrodeCell::solve_induced(const InducedSystem &system, bool is_biased,
                                                 const std::vector<double> &guess, KnownGradient known) {
    const std::size_t n_active = active_.size(), n_electrodes = options_.electrodes.size();
    std::vector<double> gradient(known.gradient, known.gradient + n_active), rows, totals;
    std::vector<std::size_t> held;
    for (std::size_t e = 0; e < n_electrodes && is_biased; ++e) {
        if (options_.electrodes[e].holds_charge) {
            held.push_back(e);
            continue;
        }
        for (std::size_t a = 0; a < n_active; ++a)
            gradient[a] -= options_.electrodes[e].value * system.sides[e * n_active + a];
    }
    if (held.size() < n_electrodes) {  // else the shares add up to one: the total follows
        rows.assign(n_active, 1.0);
        totals.push_back(0.0);
    }
    for (std::size_t e : held) {
        const double *sides = &system.sides[e * n_active];
        rows.insert(rows.end(), sides, sides + n_active);
        totals.push_back(options_.electrodes[e].value);
    }
    GaussianCharges metal;
    metal.n = static_cast<int>(n_active);
    metal.positions = system.positions.data();
    metal.cell = cell_;
    metal.hardnesses = system.hardnesses.data();
    return solver_->solve(metal, {static_cast<int>(totals.size()), rows.data(), totals.data()}, false, guess.data(),
                          {known.charges, gradient.data()});
}

// Charges [n] of a solution; adds the energy that is not in the reciprocal sum, and the derivatives of the whole by the
// memberships, with a minus sign if all electrodes are connected.
std::vector<double> ElectrodeCell::account_for(const InducedSystem &system, const EquilibrationResult &solved,
                                               bool is_biased, std::vector<double> &weight_derivatives) {
    const std::size_t n_active = active_.size(), n_electrodes = options_.electrodes.size();
    const double sign = is_biased ? 1.0 : -1.0;
    std::vector<double> potentials(n_electrodes, 0.0), charges(n_, 0.0);
    if (is_biased) {
        std::size_t multiplier = solved.multipliers.size();
        for (std::size_t e = n_electrodes; e-- > 0;) {
            const Electrode &electrode = options_.electrodes[e];
            potentials[e] = electrode.holds_charge ? solved.multipliers[--multiplier] : electrode.value;
        }
        result_.electrode_potentials = potentials;
    }
    for (std::size_t a = 0; a < n_active; ++a) {
        const double charge = solved.charges[a];
        charges[active_[a]] = charge;
        double mean = 0.0, given = 0.0;
        for (std::size_t e = 0; e < n_electrodes; ++e) {
            const double part = potentials[e] * system.sides[e * n_active + a];
            mean += part;
            given += options_.electrodes[e].holds_charge ? 0.0 : part;
        }
        const double softness = 0.5 * system.hardnesses[a] * charge * charge;
        result_.energy += sign * (softness - given * charge);
        for (std::size_t e = 0; e < n_electrodes; ++e) {
            weight_derivatives[e * n_ + active_[a]] -=
                sign * (softness + charge * (potentials[e] - mean)) / system.metals[a];
        }
    }
    result_.n_iterations += solved.n_iterations;
    result_.error_bound = std::max(result_.error_bound, solved.error_bound);
    return charges;
}

void ElectrodeCell::equilibrate() {
    const auto n_electrodes = static_cast<int>(options_.electrodes.size());
    if (n_prepared_ != n_) {
        double widest = 0.0;
        for (int type : types_)
            widest = std::max(widest, options_.parameters[type].width);
        // Both erfc(alpha d) and erfc(d/2 sigma) have fallen to erfc(pi) = 9e-6 at the cutoff.
        const double cutoff = std::max(8.0, 2.0 * pi * widest);
        pairs_ = std::make_unique<PairSearch>(cutoff, skin);
        solver_ = make_solver(pi / cutoff, cutoff);
        n_prepared_ = n_;
    }
    const bool are_pairs_new =
        pairs_->update(n_, positions_.data(), cell_, options_.share.rank, options_.share.n_ranks);
    std::vector<double> electronegativities(n_), hardnesses(n_), widths(n_), rows(n_, 1.0);
    for (int i = 0; i < n_; ++i) {
        const ChargeParameters &of = options_.parameters[types_[i]];
        electronegativities[i] = of.electronegativity;
        hardnesses[i] = of.hardness;
        widths[i] = of.width;
    }
    std::vector<double> totals{options_.total_charge};
    std::vector<int> held;
    for (int e = 0; e < n_electrodes; ++e) {
        const double *weights = &weights_.values[std::size_t(e) * n_];
        const Electrode &electrode = options_.electrodes[e];
        if (electrode.holds_charge) {
            held.push_back(e);
            rows.insert(rows.end(), weights, weights + n_);
            totals.push_back(electrode.value);
            continue;
        }
        for (int i = 0; i < n_; ++i)
            electronegativities[i] -= electrode.value * weights[i];
    }
    GaussianCharges system;
    system.n = n_;
    system.positions = positions_.data();
    system.cell = cell_;
    system.electronegativities = electronegativities.data();
    system.hardnesses = hardnesses.data();
    system.widths = widths.data();
    system.n_pairs = pairs_->size();
    system.has_each_pair_once = true;
    system.has_new_pairs = are_pairs_new;
    system.first = pairs_->first().data();
    system.second = pairs_->second().data();
    system.shifts = pairs_->shifts().data();
    const std::vector<double> guess = histories_[0].predict(n_);
    EquilibrationResult solved =
        solver_->solve(system, {static_cast<int>(totals.size()), rows.data(), totals.data()}, true, guess.data());
    histories_[0].remember(solved.charges);

    result_.energy = solved.energy;
    result_.forces = std::move(solved.forces);
    result_.virial = solved.virial;
    result_.charges = std::move(solved.charges);
    result_.n_iterations = solved.n_iterations;
    result_.error_bound = solved.error_bound;
    for (const Electrode &electrode : options_.electrodes)
        result_.electrode_potentials.push_back(electrode.holds_charge ? 0.0 : electrode.value);
    for (std::size_t h = 0; h < held.size(); ++h)
        result_.electrode_potentials[held[h]] = solved.multipliers[1 + h];
    std::vector<double> derivatives(weights_.values.size()), on_electrodes(n_, 0.0);
    for (int e = 0; e < n_electrodes; ++e) {
        double charge = 0.0;
        for (int i = 0; i < n_; ++i) {
            derivatives[std::size_t(e) * n_ + i] = -result_.electrode_potentials[e] * result_.charges[i];
            charge += weights_.value(e, i) * result_.charges[i];
            on_electrodes[i] += weights_.value(e, i) * result_.charges[i];
        }
        result_.electrode_charges.push_back(charge);
    }
    weights_.pull_back(derivatives, result_.forces.data(), result_.virial.data());
    find_largest_charge(on_electrodes);
    const double voltage = result_.electrode_potentials.back() - result_.electrode_potentials.front();
    if (voltage != 0.0) {
        result_.capacitance = 0.5 * (result_.electrode_charges.back() - result_.electrode_charges.front()) / voltage;
    }
}

void ElectrodeCell::find_largest_charge(const std::vector<double> &charges) {
    const auto worst =
        std::max_element(charges.begin(), charges.end(), [](double a, double b) { return std::abs(a) < std::abs(b); });
    result_.worst_atom = static_cast<int>(worst - charges.begin());
    result_.largest_charge = *worst;
}

std::string ElectrodeCell::describe() const {
    return solver_ ? solver_->describe() : "nothing computed yet";
}

}  // namespace qnep
