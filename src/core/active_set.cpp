#include "active_set.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>

namespace qnep {

namespace {

constexpr const char *magic = "qnep_active_set";
constexpr int format = 1;

// Reads words and keeps count of them, so that a message can say where.
class Words {
public:
    Words(const std::string &text, const std::string &name): stream_(text), name_(name) {}

    std::string word(const std::string &wanted) {
        std::string found;
        if (!(stream_ >> found)) fail(wanted, "the end of the file");
        ++count_;
        return found;
    }

    void literal(const std::string &wanted) {
        const std::string found = word(wanted);
        if (found != wanted) fail(wanted, found);
    }

    double number(const std::string &wanted) {
        const std::string found = word(wanted);
        char *end = nullptr;
        const double value = std::strtod(found.c_str(), &end);
        if (*end != '\0' || !std::isfinite(value)) fail(wanted, found);
        return value;
    }

    void finish() {
        std::string found;
        if (stream_ >> found) fail("nothing behind 'end'", found);
    }

    [[noreturn]] void fail(const std::string &wanted, const std::string &found) const {
        throw InputError(name_ + ", word " + std::to_string(count_) + ": wanted " + wanted + ", got '" + found + "'");
    }

private:
    std::istringstream stream_;
    const std::string &name_;
    long count_ = 0;
};

std::string hexadecimal(std::uint32_t value) {
    std::ostringstream text;
    text << std::hex << value;
    return text.str();
}

}  // namespace

std::uint32_t model_checksum(const Model &model) {
    std::uint32_t crc = 0xFFFFFFFFu;
    for (const double parameter : model.parameters) {
        std::uint64_t bits;
        std::memcpy(&bits, &parameter, sizeof bits);
        for (int byte = 0; byte < 8; ++byte) {
            crc ^= static_cast<std::uint32_t>(bits >> (8 * byte)) & 0xFFu;
            for (int bit = 0; bit < 8; ++bit)
                crc = crc & 1u ? (crc >> 1) ^ 0xEDB88320u : crc >> 1;
        }
    }
    return ~crc;
}

ActiveSet ActiveSet::parse(const std::string &text, const std::string &name, const Model &model) {
    Words words(text, name);
    words.literal(magic);
    if (words.number("the format") != format) words.fail("format " + std::to_string(format), "another version");
    words.literal("model");
    const std::string checksum = words.word("the checksum of a model");
    if (checksum != hexadecimal(model_checksum(model))) {
        words.fail("the active set of this model (checksum " + hexadecimal(model_checksum(model)) + ")",
                   "that of another model, " + checksum);
    }
    words.literal("features");
    const auto n = static_cast<std::size_t>(model.n_descriptors());
    const double n_features = words.number("the number of features");
    if (n_features != static_cast<double>(n)) {
        words.fail(std::to_string(n) + " features", std::to_string(n_features));
    }
    ActiveSet set;
    const double *scalers = model.parameters.data() + model.scaler_offset();
    set.scalers_.assign(scalers, scalers + n);
    set.inverses_.resize(model.elements.size());
    for (std::string key = words.word("element or end"); key != "end"; key = words.word("element or end")) {
        if (key != "element") words.fail("element or end", key);
        const std::string element = words.word("an element");
        const auto found = std::find(model.elements.begin(), model.elements.end(), element);
        if (found == model.elements.end()) words.fail("an element of the model", element);
        std::vector<double> &inverse = set.inverses_[found - model.elements.begin()];
        if (!inverse.empty()) words.fail("each element once", element);
        inverse.resize((n + 1) * (n + 1));
        for (double &value : inverse)
            value = words.number("a number of the matrix of " + element);
    }
    words.finish();
    return set;
}

double ActiveSet::grade(int type, const double *descriptors, double *scratch) const {
    const std::vector<double> &inverse = inverses_[type];
    if (inverse.empty()) return std::numeric_limits<double>::infinity();
    const std::size_t n = scalers_.size();
    std::copy_n(inverse.data() + n * (n + 1), n + 1, scratch);  // the row of the constant one
    for (std::size_t d = 0; d < n; ++d) {
        const double value = descriptors[d] * scalers_[d];
        const double *row = inverse.data() + d * (n + 1);
        for (std::size_t c = 0; c <= n; ++c)
            scratch[c] += value * row[c];
    }
    double largest = 0.0;
    for (std::size_t c = 0; c <= n; ++c)
        largest = std::max(largest, std::abs(scratch[c]));
    return largest;
}

}  // namespace qnep
