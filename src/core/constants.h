// Physical and mathematical constants of the model, each with its source.
#pragma once

namespace qnep {

inline constexpr double pi = 3.14159265358979323846;

/// Coulomb constant e^2/(4 pi epsilon_0) in eV Å e^-2. All public implementations of NEP use
/// exactly these digits, so a fitted model contains them.
inline constexpr double coulomb_constant = 14.399645;

}  // namespace qnep
