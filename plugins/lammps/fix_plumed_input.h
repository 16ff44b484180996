// The PLUMED input file as a list of instructions with the line each one starts at.
#pragma once

#include <string>
#include <vector>

namespace QNEP {

/// One instruction of a PLUMED input file, with its continuation lines joined and its comments gone.
struct PlumedInstruction {
    int line;          // number in the file, from 1
    std::string text;  // as PLUMED's command readInputLine takes it

    /// Name of the action, without its label (`d: DISTANCE ATOMS=1,2` -> DISTANCE).
    std::string action() const;

    /// Label written as `label: ACTION` or `ACTION LABEL=label`; empty if PLUMED gives one of its own.
    std::string label() const;

    /// Value of `KEYWORD=value`; empty if absent.
    std::string value_of(const std::string &keyword) const;

    bool has_word(const std::string &word) const;
};

/// Reads a file up to ENDPLUMED. PLUMED reads files itself too, but only so do we know the line of an error.
/// Throws std::runtime_error if the file cannot be read or a `...` block stays open.
std::vector<PlumedInstruction> read_plumed_input(const std::string &path);

/// The instructions with those of included files in the place of each INCLUDE that can be read here. PLUMED reads
/// these files itself; this is for looking something up. Throws as read_plumed_input for a `...` block.
std::vector<PlumedInstruction> with_included(const std::vector<PlumedInstruction> &instructions);

}  // namespace QNEP
