// Parameters of elements in charge equilibration.
#pragma once

namespace qnep {

struct ChargeParameters {
    double electronegativity;  // V: energy per charge at zero charge
    double hardness;           // V/e, without the Gaussian's own energy
    double width;              // Å, standard deviation of the Gaussian
};

struct KnownChargeParameters {
    const char *element;
    ChargeParameters parameters;
};

/// All but Na: published with the lithium study, Nat. Commun. 16 (2025), doi:10.1038/s41467-025-62824-5, widths are the
/// covalent radii of Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/b801115j. Na: electronegativity and
/// hardness of Rappé and Goddard, J. Phys. Chem. 95, 3358 (1991), doi:10.1021/j100161a070, and the covalent radius.
inline constexpr KnownChargeParameters known_charge_parameters[] = {
    {"H", {5.32, 7.437, 0.31}}, {"Li", {-3.0, 10.024, 1.28}}, {"C", {5.868, 7.0, 0.76}}, {"O", {8.5, 8.999, 0.66}},
    {"F", {9.0, 8.0, 0.57}},    {"Na", {2.843, 4.592, 1.66}}, {"P", {1.8, 7.095, 1.07}}};

/// Å, H ... Pu: Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/b801115j.
inline constexpr double covalent_radii[] = {
    0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02, 1.06, 2.03,
    1.76, 1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22, 1.22, 1.20, 1.19, 1.20, 1.20, 1.16, 2.20, 1.95,
    1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44, 1.42, 1.39, 1.39, 1.38, 1.39, 1.40, 2.44, 2.15, 2.07,
    2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96, 1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87, 1.75, 1.70, 1.62, 1.51, 1.44,
    1.41, 1.36, 1.36, 1.32, 1.45, 1.46, 1.48, 1.40, 1.50, 1.50, 2.60, 2.21, 2.15, 2.06, 2.00, 1.96, 1.90, 1.87};

}  // namespace qnep
