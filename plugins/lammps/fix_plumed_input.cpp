#include "fix_plumed_input.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace QNEP {

namespace {

std::vector<std::string> words_of(const std::string &text) {
    std::istringstream stream(text);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) {
        words.push_back(word);
    }
    return words;
}

bool is_label(const std::string &word) {
    return word.size() > 1 && word.back() == ':';
}

std::string without_comment(const std::string &line) {
    return line.substr(0, line.find('#'));
}

void append(std::string &text, const std::vector<std::string> &words) {
    for (const auto &word : words) {
        text += (text.empty() ? "" : " ") + word;
    }
}

}  // namespace

std::string PlumedInstruction::action() const {
    const auto words = words_of(text);
    const std::size_t first = (words.size() > 1 && is_label(words[0])) ? 1 : 0;
    return first < words.size() ? words[first] : "";
}

std::string PlumedInstruction::label() const {
    const auto words = words_of(text);
    if (words.size() > 1 && is_label(words[0])) {
        return words[0].substr(0, words[0].size() - 1);
    }
    return value_of("LABEL");
}

std::string PlumedInstruction::value_of(const std::string &keyword) const {
    const std::string start = keyword + "=";
    for (const auto &word : words_of(text)) {
        if (word.compare(0, start.size(), start) == 0) {
            return word.substr(start.size());
        }
    }
    return "";
}

bool PlumedInstruction::has_word(const std::string &word) const {
    const auto words = words_of(text);
    return std::find(words.begin(), words.end(), word) != words.end();
}

std::vector<PlumedInstruction> read_plumed_input(const std::string &path) {
    std::ifstream file(path);
    if (!file) {
        throw std::runtime_error("cannot open the PLUMED file '" + path + "'");
    }
    std::vector<PlumedInstruction> instructions;
    bool inside = false;  // of a block  ACTION ... / ... ACTION
    int number = 0;
    for (std::string line; std::getline(file, line);) {
        ++number;
        auto words = words_of(without_comment(line));
        if (words.empty()) {
            continue;
        }
        if (inside && words[0] == "...") {
            inside = false;
            continue;
        }
        if (!inside && words[0] == "ENDPLUMED") {
            break;
        }
        const bool opens = words.back() == "...";
        if (opens) {
            words.pop_back();
        }
        if (!inside) {
            instructions.push_back({number, ""});
        }
        append(instructions.back().text, words);
        inside = inside || opens;
    }
    if (inside) {
        throw std::runtime_error("PLUMED file '" + path + "': the block that line " +
                                 std::to_string(instructions.back().line) + " opens with '...' is never closed");
    }
    return instructions;
}

std::vector<PlumedInstruction> with_included(const std::vector<PlumedInstruction> &instructions) {
    std::vector<PlumedInstruction> all;
    for (const PlumedInstruction &instruction : instructions) {
        const std::string file = instruction.action() == "INCLUDE" ? instruction.value_of("FILE") : "";
        // PLUMED has read the input by now, so no file includes itself. Of partitions each may have a file of its own.
        if (file.empty() || !std::ifstream(file)) {
            all.push_back(instruction);
            continue;
        }
        const auto included = with_included(read_plumed_input(file));
        all.insert(all.end(), included.begin(), included.end());
    }
    return all;
}

}  // namespace QNEP
