#include "model.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <set>
#include <sstream>

#include "constants.h"
#include "elements.h"

namespace qnep {

namespace {

constexpr int zbl_numbers_per_pair = 10;

std::string plural(std::size_t n, const std::string &noun) {
    return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
}

}  // namespace

int atomic_number(const std::string &symbol) {
    for (int z = 0; z < n_elements; ++z) {
        if (symbol == element_symbols[z]) return z + 1;
    }
    return 0;
}

// ---- sizes and offsets (the order of the numbers in the file) ----

int Model::n_angular_blocks() const {
    return l_max + static_cast<int>(std::count(invariants.begin(), invariants.end(), true));
}

int Model::n_descriptors() const {
    return n_radial() + n_angular() * n_angular_blocks() + (has_temperature ? 1 : 0);
}

double Model::largest_radial_cutoff() const {
    return radial_cutoffs.empty() ? 0.0 : *std::max_element(radial_cutoffs.begin(), radial_cutoffs.end());
}

double Model::largest_angular_cutoff() const {
    return angular_cutoffs.empty() ? 0.0 : *std::max_element(angular_cutoffs.begin(), angular_cutoffs.end());
}

double Model::largest_cutoff() const {
    return std::max(largest_radial_cutoff(), largest_angular_cutoff());
}

double Model::ewald_alpha() const {
    return pi / largest_radial_cutoff();
}

std::size_t Model::network_size() const {
    return static_cast<std::size_t>(n_descriptors() + 1 + n_outputs()) * n_neurons + (version == 5 ? 1 : 0);
}

namespace {

// Networks, the square root of epsilon and the common bias: what a polarizability model holds twice.
std::size_t network_set_size(const Model &model) {
    return model.n_networks() * model.network_size() + (model.has_charges() ? 1 : 0) + 1;
}

int n_network_sets(const Model &model) {
    return model.kind == ModelKind::polarizability ? 2 : 1;
}

std::size_t coefficients_size(const Model &model, int n, int k) {
    return static_cast<std::size_t>(n) * k * model.n_types() * model.n_types();
}

}  // namespace

std::size_t Model::network_offset(int type, int set) const {
    return set * network_set_size(*this) + (version == 3 ? 0 : type) * network_size();
}

std::size_t Model::sqrt_epsilon_offset() const {
    return n_networks() * network_size();
}

std::size_t Model::bias_offset(int set) const {
    return (set + 1) * network_set_size(*this) - 1;
}

std::size_t Model::radial_offset() const {
    return n_network_sets(*this) * network_set_size(*this);
}

std::size_t Model::angular_offset() const {
    return radial_offset() + coefficients_size(*this, n_radial(), k_radial());
}

std::size_t Model::scaler_offset() const {
    return angular_offset() + coefficients_size(*this, n_angular(), k_angular());
}

std::size_t Model::zbl_offset() const {
    return scaler_offset() + n_descriptors();
}

std::size_t Model::n_parameters() const {
    const std::size_t pairs = static_cast<std::size_t>(n_types()) * (n_types() + 1) / 2;
    return zbl_offset() + (zbl == ZblForm::flexible ? zbl_numbers_per_pair * pairs : 0);
}

// ---- the first token ----

std::string Model::token() const {
    std::string text = "nep" + std::to_string(version);
    if (zbl != ZblForm::none) text += "_zbl";
    if (charge_mode > 0) text += "_charge" + std::to_string(charge_mode);
    if (kind == ModelKind::dipole) text += "_dipole";
    if (kind == ModelKind::polarizability) text += "_polarizability";
    if (has_temperature) text += "_temperature";
    return text;
}

namespace {

struct Suffix {
    const char *text;
    ModelKind kind;
    int charge_mode;
    bool has_temperature;
    const char *refusal;  // why such a model is not evaluated, or null
};

constexpr const char *vdw_refusal =
    "van der Waals models are written by an experimental trainer only; no published code runs dynamics with them";

constexpr Suffix suffixes[] = {
    {"", ModelKind::potential, 0, false, nullptr},
    {"_charge1", ModelKind::potential, 1, false, nullptr},
    {"_charge2", ModelKind::potential, 2, false, nullptr},
    {"_charge3", ModelKind::potential, 3, false,
     "charge mode 3 (short-ranged damped Coulomb) was retired from the method in 2026; retrain with mode 1 or 2"},
    {"_vdw", ModelKind::potential, 0, false, vdw_refusal},
    {"_charge_vdw", ModelKind::potential, 2, false, vdw_refusal},
    {"_dipole", ModelKind::dipole, 0, false, nullptr},
    {"_polarizability", ModelKind::polarizability, 0, false, nullptr},
    {"_temperature", ModelKind::potential, 0, true, nullptr},
};

// Combinations of the version and the rest that exist (spec of the file format).
bool token_exists(int version, bool zbl, const Suffix &suffix) {
    if (suffix.charge_mode > 0 || suffix.has_temperature) return version == 4;
    if (suffix.kind != ModelKind::potential) return !zbl && version != 5;
    return true;
}

}  // namespace

// ---- reading ----

namespace {

class Parser {
public:
    Parser(const std::string &text, const std::string &name): name_(name), cursor_(text.data()) {
        end_ = cursor_ + text.size();
        if (text.compare(0, 3, "\xEF\xBB\xBF") == 0) cursor_ += 3;  // the mark that editors of Windows put first
    }

    Model parse() {
        check_that_it_is_text();
        parse_token();
        if (has_zbl_line_) parse_zbl();
        parse_cutoff();
        parse_pair_of_integers("n_max", "n_max_radial n_max_angular", ModelLimits::n_max, model_.n_max_radial,
                               model_.n_max_angular);
        parse_pair_of_integers("basis_size", "basis_size_radial basis_size_angular", ModelLimits::basis_size,
                               model_.basis_size_radial, model_.basis_size_angular);
        parse_l_max();
        parse_network_size();
        parse_numbers();
        try {
            model_.check();
        } catch (const ModelError &error) {
            throw ModelError(name_ + ": " + error.what());
        }
        return std::move(model_);
    }

private:
    using Tokens = std::vector<std::string>;

    [[noreturn]] void fail(const std::string &wanted, const std::string &got) const {
        throw ModelError(name_ + ", line " + std::to_string(line_) + ": wanted " + wanted + ", got " + printable(got));
    }

    // A message must be text, whatever the file holds.
    static std::string printable(std::string text) {
        std::replace_if(
            text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c > 0x7e; }, '?');
        return text;
    }

    void check_that_it_is_text() const {
        const auto is_control = [](unsigned char c) { return c < 0x20 && !std::isspace(c); };
        if (std::any_of(cursor_, end_, is_control)) {
            throw ModelError(name_ + ": wanted a text file, got a binary or a compressed one");
        }
    }

    bool at_end() const { return cursor_ == end_; }

    // The next line without its end, or an empty one at the end of the text.
    std::string next_line() {
        const char *newline = static_cast<const char *>(std::memchr(cursor_, '\n', end_ - cursor_));
        const char *stop = newline ? newline : end_;
        std::string line(cursor_, stop);
        cursor_ = newline ? newline + 1 : end_;
        ++line_;
        if (!line.empty() && line.back() == '\r') line.pop_back();
        return line;
    }

    Tokens header_line(const std::string &keyword, const std::string &form) {
        if (at_end()) {
            ++line_;
            fail("'" + form + "'", "the end of the file");
        }
        std::istringstream stream(next_line());
        Tokens tokens;
        for (std::string token; stream >> token;)
            tokens.push_back(token);
        if (tokens.empty() || (!keyword.empty() && tokens[0] != keyword)) fail("'" + form + "'", quoted(tokens));
        return tokens;
    }

    static std::string quoted(const Tokens &tokens) {
        std::string text;
        for (const auto &token : tokens)
            text += (text.empty() ? "" : " ") + token;
        if (text.size() > 80) text = text.substr(0, 77) + "...";
        return "'" + text + "'";
    }

    double number(const std::string &token, const std::string &what) const {
        double value = 0.0;
        const char *begin = token.c_str() + (token[0] == '+' ? 1 : 0);
        const char *stop = token.c_str() + token.size();
        const auto [last, error] = std::from_chars(begin, stop, value);
        if (error == std::errc::result_out_of_range) {
            // An underflow is as good as zero; an overflow is not a parameter.
            value = std::strtod(begin, nullptr);
        } else if (error != std::errc() || last != stop) {
            fail(what, "'" + token + "'");
        }
        if (!std::isfinite(value)) fail(what + " that is finite", "'" + token + "'");
        return value;
    }

    int integer(const std::string &token, int low, int high, const std::string &what) const {
        int value = 0;
        const char *stop = token.c_str() + token.size();
        const auto [last, error] = std::from_chars(token.c_str(), stop, value);
        if (error != std::errc() || last != stop || value < low || value > high) {
            fail(what + " between " + std::to_string(low) + " and " + std::to_string(high), "'" + token + "'");
        }
        return value;
    }

    void parse_token() {
        const Tokens tokens = header_line("", "nep4... n_types symbol_1 ... symbol_n");
        parse_kind(tokens[0]);
        if (tokens.size() < 2) fail("the number of elements after '" + tokens[0] + "'", quoted(tokens));
        const int n_types = integer(tokens[1], 1, n_elements, "a number of elements");
        if (tokens.size() != static_cast<std::size_t>(n_types) + 2) {
            fail(plural(n_types, "chemical symbol"), plural(tokens.size() - 2, "symbol") + " in " + quoted(tokens));
        }
        for (std::size_t i = 2; i < tokens.size(); ++i) {
            if (atomic_number(tokens[i]) == 0) {
                fail("a chemical symbol between H and Pu (case matters)", "'" + tokens[i] + "'");
            }
            if (std::count(tokens.begin() + 2, tokens.end(), tokens[i]) > 1) {
                fail("every element once", "'" + tokens[i] + "' twice");
            }
            model_.elements.push_back(tokens[i]);
        }
    }

    void parse_kind(const std::string &token) {
        const std::string wanted =
            "a model token such as nep4, nep4_zbl, nep4_charge2, nep4_dipole (nep3, nep4 or nep5 with optional parts)";
        if (token.size() < 4 || token.compare(0, 3, "nep") != 0) fail(wanted, "'" + token + "'");
        model_.version = token[3] - '0';
        if (model_.version < 3 || model_.version > 5) fail(wanted, "'" + token + "'");
        std::string rest = token.substr(4);
        if (rest.compare(0, 4, "_zbl") == 0) {
            has_zbl_line_ = true;
            rest = rest.substr(4);
        }
        for (const Suffix &suffix : suffixes) {
            if (rest != suffix.text) continue;
            if (suffix.refusal) fail("a model that can be evaluated", "'" + token + "': " + suffix.refusal);
            if (!token_exists(model_.version, has_zbl_line_, suffix)) break;
            model_.kind = suffix.kind;
            model_.charge_mode = suffix.charge_mode;
            model_.has_temperature = suffix.has_temperature;
            return;
        }
        fail(wanted, "'" + token + "'");
    }

    void parse_zbl() {
        const Tokens tokens = header_line("zbl", "zbl inner_cutoff outer_cutoff [factor]");
        if (tokens.size() != 3 && tokens.size() != 4) {
            fail("'zbl inner_cutoff outer_cutoff [factor]'", quoted(tokens));
        }
        model_.zbl_inner_cutoff = number(tokens[1], "the inner ZBL cutoff");
        model_.zbl_outer_cutoff = number(tokens[2], "the outer ZBL cutoff");
        model_.zbl = ZblForm::universal;
        if (model_.zbl_inner_cutoff == 0.0 && model_.zbl_outer_cutoff == 0.0) {
            model_.zbl = ZblForm::flexible;
        } else if (tokens.size() == 4) {
            model_.zbl = ZblForm::typewise;
            model_.zbl_typewise_factor = number(tokens[3], "the factor of the type-wise ZBL cutoff");
        }
    }

    void parse_cutoff() {
        const std::string form = "cutoff radial angular [radial angular per type] max_radial max_angular";
        const Tokens tokens = header_line("cutoff", form);
        const std::size_t n_types = model_.n_types();
        const std::size_t n_values = tokens.size() - 1;
        // Two values: very old files without the neighbour numbers.
        const bool uniform = n_values == 4 || n_values == 2;
        if (!uniform && n_values != 2 * n_types + 2) {
            fail("'" + form + "' with 4 or " + std::to_string(2 * n_types + 2) + " values", quoted(tokens));
        }
        model_.has_uniform_cutoffs = uniform;
        for (std::size_t type = 0; type < n_types; ++type) {
            const std::size_t first = uniform ? 1 : 1 + 2 * type;
            model_.radial_cutoffs.push_back(number(tokens[first], "a radial cutoff in Angstrom"));
            model_.angular_cutoffs.push_back(number(tokens[first + 1], "an angular cutoff in Angstrom"));
        }
        if (n_values > 2) {
            const int most = std::numeric_limits<int>::max();
            model_.max_radial_neighbors = integer(tokens[n_values - 1], 0, most, "a number of radial neighbours");
            model_.max_angular_neighbors = integer(tokens[n_values], 0, most, "a number of angular neighbours");
        }
    }

    void parse_pair_of_integers(const std::string &keyword, const std::string &names, int limit, int &radial,
                                int &angular) {
        const Tokens tokens = header_line(keyword, keyword + " " + names);
        if (tokens.size() != 3) fail("'" + keyword + " " + names + "'", quoted(tokens));
        radial = integer(tokens[1], 0, limit, keyword + " of the radial part");
        angular = integer(tokens[2], 0, limit, keyword + " of the angular part");
    }

    void parse_l_max() {
        const std::string form = "l_max L [f222 f1111 f112 f123 f233 f134]";
        const Tokens tokens = header_line("l_max", form);
        if (tokens.size() < 2 || tokens.size() > 2 + n_invariants) fail("'" + form + "'", quoted(tokens));
        model_.l_max = integer(tokens[1], 1, ModelLimits::l_max, "l_max");
        for (std::size_t i = 2; i < tokens.size(); ++i) {
            // Old files write 2 for "up to l = 2": every value but 0 means on.
            model_.invariants[i - 2] = integer(tokens[i], 0, ModelLimits::l_max, "a flag of l_max") != 0;
        }
    }

    void parse_network_size() {
        const Tokens tokens = header_line("ANN", "ANN n_neurons 0");
        if (tokens.size() != 2 && tokens.size() != 3) fail("'ANN n_neurons 0'", quoted(tokens));
        model_.n_neurons = integer(tokens[1], 1, ModelLimits::neurons, "a number of neurons");
        if (tokens.size() == 3 && tokens[2] != "0") {
            fail("'ANN n_neurons 0' (one hidden layer)",
                 quoted(tokens) +
                     ": a second hidden layer is known to the trainer only, no published code evaluates it");
        }
    }

    void parse_numbers() {
        const std::size_t wanted = model_.n_parameters();
        model_.parameters.reserve(wanted);
        while (model_.parameters.size() < wanted) {
            if (at_end()) {
                throw ModelError(name_ + ": wanted " + plural(wanted, "number") + " after the header (" +
                                 model_.token() + ", " + plural(model_.n_types(), "element") + "), got " +
                                 std::to_string(model_.parameters.size()) + ": the file is truncated");
            }
            const std::string line = next_line();
            const std::size_t begin = line.find_first_not_of(" \t");
            if (begin == std::string::npos) fail("a number", "an empty line");
            const std::size_t stop = line.find_first_of(" \t", begin);
            model_.parameters.push_back(number(line.substr(begin, stop - begin), "a number"));
        }
        while (!at_end()) {
            const std::string line = next_line();
            if (line.find_first_not_of(" \t") != std::string::npos) {
                fail("the end of the file after " + plural(wanted, "number"), "'" + line.substr(0, 40) + "'");
            }
        }
    }

    std::string name_;
    const char *cursor_;
    const char *end_;
    int line_ = 0;
    bool has_zbl_line_ = false;
    Model model_;
};

}  // namespace

Model parse_model(const std::string &text, const std::string &name) {
    return Parser(text, name).parse();
}

Model read_model(const std::string &path) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) throw ModelError(path + ": wanted a model file, got a folder");
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    if (file) text << file.rdbuf();
    if (!file) throw ModelError(path + ": cannot be read: " + std::strerror(errno ? errno : EIO));
    return parse_model(text.str(), path);
}

// ---- checking ----

namespace {

void require(bool condition, const std::string &message) {
    if (!condition) throw ModelError(message);
}

void check_cutoffs(const Model &model) {
    constexpr double longest = 100.0;  // Å, that of the reference trainer
    for (const auto *cutoffs : {&model.radial_cutoffs, &model.angular_cutoffs}) {
        require(static_cast<int>(cutoffs->size()) == model.n_types(), "wanted one cutoff per element, got " +
                                                                          plural(cutoffs->size(), "cutoff") + " for " +
                                                                          plural(model.n_types(), "element"));
        for (double cutoff : *cutoffs) {
            require(cutoff > 0.0 && cutoff <= longest,
                    "wanted cutoffs between 0 and 100 Angstrom, got " + std::to_string(cutoff));
        }
    }
    if (!model.has_charges()) return;
    // The trainers know no other. The Ewald parameter belongs to the largest one, so the real-space sum would end where
    // it has not yet died away.
    for (double cutoff : model.radial_cutoffs) {
        require(cutoff == model.radial_cutoffs[0], "wanted one radial cutoff for all elements of a model with charges, "
                                                   "got " +
                                                       std::to_string(model.radial_cutoffs[0]) + " and " +
                                                       std::to_string(cutoff) + " Angstrom");
    }
}

void check_zbl(const Model &model) {
    if (model.zbl == ZblForm::none || model.zbl == ZblForm::flexible) return;
    require(model.zbl_inner_cutoff >= 0.0 && model.zbl_outer_cutoff > model.zbl_inner_cutoff,
            "wanted ZBL cutoffs with 0 <= inner < outer, got " + std::to_string(model.zbl_inner_cutoff) + " and " +
                std::to_string(model.zbl_outer_cutoff));
    require(model.zbl != ZblForm::typewise || model.zbl_typewise_factor > 0.0,
            "wanted a positive factor for the type-wise ZBL cutoff, got " + std::to_string(model.zbl_typewise_factor));
}

void check_flexible_zbl(const Model &model) {
    if (model.zbl != ZblForm::flexible) return;
    for (std::size_t at = model.zbl_offset(); at < model.n_parameters(); at += zbl_numbers_per_pair) {
        const double inner = model.parameters[at];
        const double outer = model.parameters[at + 1];
        require(inner >= 0.0 && outer > inner, "wanted cutoffs with 0 <= inner < outer for every pair of the flexible "
                                               "ZBL, got " +
                                                   std::to_string(inner) + " and " + std::to_string(outer));
    }
}

void check_invariants(const Model &model) {
    constexpr int l_needed[n_invariants] = {2, 1, 2, 3, 3, 4};
    constexpr const char *names[n_invariants] = {"222", "1111", "112", "123", "233", "134"};
    for (int i = 0; i < n_invariants; ++i) {
        require(!model.invariants[i] || model.l_max >= l_needed[i],
                std::string("the invariant ") + names[i] + " needs l_max of at least " + std::to_string(l_needed[i]) +
                    ", got " + std::to_string(model.l_max));
    }
}

void check_range(const char *what, int value, int low, int high) {
    require(value >= low && value <= high, std::string("wanted ") + what + " between " + std::to_string(low) + " and " +
                                               std::to_string(high) + ", got " + std::to_string(value));
}

void check_elements(const Model &model) {
    require(!model.elements.empty(), "wanted at least one element");
    std::set<std::string> seen;
    for (const std::string &element : model.elements) {
        require(atomic_number(element) > 0, "wanted chemical symbols between H and Pu, got '" + element + "'");
        require(seen.insert(element).second, "wanted every element once, got '" + element + "' twice");
    }
}

}  // namespace

void Model::check() const {
    check_elements(*this);
    check_range("version", version, 3, 5);
    check_range("charge_mode", charge_mode, 0, 2);
    check_range("n_max_radial", n_max_radial, 0, ModelLimits::n_max);
    check_range("n_max_angular", n_max_angular, 0, ModelLimits::n_max);
    check_range("basis_size_radial", basis_size_radial, 0, ModelLimits::basis_size);
    check_range("basis_size_angular", basis_size_angular, 0, ModelLimits::basis_size);
    check_range("l_max", l_max, 1, ModelLimits::l_max);
    check_range("n_neurons", n_neurons, 1, ModelLimits::neurons);
    const Suffix suffix{"", kind, charge_mode, has_temperature, nullptr};
    const bool one_kind = (charge_mode > 0) + has_temperature + (kind != ModelKind::potential) <= 1;
    require(one_kind && token_exists(version, zbl != ZblForm::none, suffix), "no such kind of model: " + token());
    check_cutoffs(*this);
    check_zbl(*this);
    check_invariants(*this);
    require(parameters.size() == n_parameters(),
            "wanted " + plural(n_parameters(), "parameter") + ", got " + std::to_string(parameters.size()));
    const auto bad = std::find_if_not(parameters.begin(), parameters.end(), [](double x) { return std::isfinite(x); });
    require(bad == parameters.end(),
            "parameter " + std::to_string(bad - parameters.begin()) + " is not a finite number");
    check_flexible_zbl(*this);
}

// ---- writing ----

namespace {

// Shortest decimal number that reads back as the same double.
std::string shortest(double value) {
    char buffer[32];
    const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
    return std::string(buffer, result.ptr);
}

std::string format_header(const Model &model) {
    std::ostringstream text;
    text << model.token() << " " << model.n_types();
    for (const auto &element : model.elements)
        text << " " << element;
    text << "\n";
    if (model.zbl != ZblForm::none) {
        text << "zbl " << shortest(model.zbl_inner_cutoff) << " " << shortest(model.zbl_outer_cutoff);
        if (model.zbl == ZblForm::typewise) text << " " << shortest(model.zbl_typewise_factor);
        text << "\n";
    }
    text << "cutoff";
    const auto has_one_value = [](const std::vector<double> &cutoffs) {
        return std::all_of(cutoffs.begin(), cutoffs.end(), [&](double cutoff) { return cutoff == cutoffs[0]; });
    };
    const bool is_uniform =
        model.has_uniform_cutoffs && has_one_value(model.radial_cutoffs) && has_one_value(model.angular_cutoffs);
    const int n_written = is_uniform ? 1 : model.n_types();
    for (int type = 0; type < n_written; ++type) {
        text << " " << shortest(model.radial_cutoffs[type]) << " " << shortest(model.angular_cutoffs[type]);
    }
    text << " " << model.max_radial_neighbors << " " << model.max_angular_neighbors << "\n";
    text << "n_max " << model.n_max_radial << " " << model.n_max_angular << "\n";
    text << "basis_size " << model.basis_size_radial << " " << model.basis_size_angular << "\n";
    text << "l_max " << model.l_max;
    // Readers differ in what they make of a first flag above 1, so flags are written as 0 and 1 alone where
    // later ones follow; the old form (2 for the first flag) is what every reader knows where they do not.
    const bool has_later =
        std::any_of(model.invariants.begin() + 2, model.invariants.end(), [](bool on) { return on; });
    text << " " << (model.invariants[0] ? (has_later ? 1 : 2) : 0) << " " << int(model.invariants[1]);
    if (has_later) {
        for (int i = 2; i < n_invariants; ++i)
            text << " " << int(model.invariants[i]);
    }
    text << "\nANN " << model.n_neurons << " 0\n";
    return text.str();
}

}  // namespace

std::string format_model(const Model &model) {
    model.check();
    std::string text = format_header(model);
    for (double value : model.parameters)
        text += "  " + shortest(value) + "\n";
    return text;
}

void write_model(const Model &model, const std::string &path) {
    const std::string text = format_model(model);
    std::ofstream file(path, std::ios::binary);
    file << text;
    file.flush();
    if (!file) throw ModelError(path + ": cannot be written: " + std::strerror(errno ? errno : EIO));
}

}  // namespace qnep
