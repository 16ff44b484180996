// What the files that register the styles of a plugin have in common: the check of the LAMMPS version and the records.
#pragma once

#include <string>

#include "lammps_plugin_interface.h"

// Of the C library interface of LAMMPS, which stays the same; its C++ classes and their functions do not.
extern "C" {
int lammps_version(void *lammps);
int lammps_extract_setting(void *lammps, const char *name);
void lammps_error(void *lammps, int kind, const char *text);
}

namespace LAMMPS_NS {

class LAMMPS;

/// Whether the running LAMMPS is the one that the plugin was compiled for; if not, a warning on the first rank.
/// The classes of LAMMPS have another layout in every version, so that a plugin for one crashes in another.
inline bool is_made_for(void *lammps, const std::string &plugin, const std::string &style) {
    const int running = lammps_version(lammps);
    if (running == QNEP_LAMMPS_VERSION_NUMBER) {
        return true;
    }
    if (lammps_extract_setting(lammps, "world_rank") == 0) {
        constexpr int warning = 0;
        const std::string text = "the " + plugin + " was built for LAMMPS version " +
                                 std::to_string(QNEP_LAMMPS_VERSION_NUMBER) + " and this is version " +
                                 std::to_string(running) + ": " + style +
                                 " is not available. Install the matching lammps package or build plugins/lammps "
                                 "against this LAMMPS";
        lammps_error(lammps, warning, text.c_str());
    }
    return false;
}

/// Announces the styles of one plugin.
class StyleRegistration {
public:
    /// Arguments of `lammpsplugin_init`.
    StyleRegistration(void *lammps, void *handle, void *register_function):
        lammps_(lammps), register_style_(reinterpret_cast<lammpsplugin_regfunc>(register_function)) {
        record_.version = QNEP_LAMMPS_VERSION;
        record_.author = "the qnep developers";
        record_.handle = handle;
    }

    template <class Style>
    void add_pair(const char *name, const char *info) {
        record_.creator.without_arguments = [](void *lammps) -> void * {
            return new Style(static_cast<LAMMPS *>(lammps));
        };
        announce("pair", name, info);
    }

    /// A compute or a fix.
    template <class Style>
    void add(const char *kind, const char *name, const char *info) {
        record_.creator.with_arguments = [](void *lammps, int narg, char **arg) -> void * {
            return new Style(static_cast<LAMMPS *>(lammps), narg, arg);
        };
        announce(kind, name, info);
    }

private:
    void announce(const char *kind, const char *name, const char *info) {
        record_.style = kind;
        record_.name = name;
        record_.info = info;
        register_style_(&record_, lammps_);
    }

    void *lammps_;
    lammpsplugin_regfunc register_style_;
    lammpsplugin_t record_{};
};

}  // namespace LAMMPS_NS
