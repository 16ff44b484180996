#include "fix_plumed_kernel.h"

#include <cstdlib>
#include <dlfcn.h>
#include <exception>
#include <filesystem>
#include <mpi.h>

namespace QNEP {

namespace {

const char *const kernel_name = "libplumedKernel.so";
const char *const how_to_get_one =
    "install one with 'pip install --no-deps hillclimber' or 'conda install -c conda-forge plumed', or set the "
    "environment variable PLUMED_KERNEL to the path of a libplumedKernel.so";

/// File of the library or program that holds an address, empty if unknown.
std::filesystem::path file_with(const void *address) {
    Dl_info info{};
    if (dladdr(address, &info) == 0 || info.dli_fname == nullptr) {
        return {};
    }
    std::error_code ignored;
    return std::filesystem::weakly_canonical(info.dli_fname, ignored);
}

/// Kernels in Python package folders that enclose the file (site-packages/plumed/_lib/lib).
void add_neighbors_of(const std::filesystem::path &file, std::vector<std::string> &paths) {
    for (auto folder = file.parent_path(); folder.has_relative_path(); folder = folder.parent_path()) {
        const auto candidate = folder / "plumed" / "_lib" / "lib" / kernel_name;
        std::error_code ignored;
        if (std::filesystem::is_regular_file(candidate, ignored)) {
            paths.push_back(candidate.string());
        }
    }
}

std::vector<std::string> candidates() {
    const char *wanted = std::getenv("PLUMED_KERNEL");
    if (wanted != nullptr && *wanted != '\0') {
        return {wanted};
    }
    std::vector<std::string> paths;
    add_neighbors_of(file_with(reinterpret_cast<const void *>(&add_neighbors_of)), paths);
    add_neighbors_of(file_with(dlsym(RTLD_DEFAULT, "lammps_version")), paths);
    paths.emplace_back(kernel_name);
    return paths;
}

void append_messages(const std::exception &failure, std::string &text) {
    text += text.empty() ? "" : "\n";
    text += failure.what();
    try {
        std::rethrow_if_nested(failure);
    } catch (const std::exception &inner) {
        append_messages(inner, text);
    } catch (...) {
        text += "\n(an unknown exception)";
    }
}

}  // namespace

PlumedKernel::PlumedKernel() {
    std::string reasons;
    for (const auto &path : candidates()) {
        if (open(path, reasons)) {
            return;
        }
    }
    throw PlumedError("no PLUMED kernel could be loaded: " + std::string(how_to_get_one) + "; tried:" + reasons);
}

bool PlumedKernel::open(const std::string &path, std::string &reasons) {
    // Global symbols, so that a collective variable that PLUMED compiles and loads itself finds the kernel.
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (handle_ == nullptr) {
        reasons += "\n  " + std::string(dlerror());
        return false;
    }
    create = reinterpret_cast<Create *>(function("plumed_plumedmain_create"));
    command = reinterpret_cast<Command *>(function("plumed_plumedmain_cmd"));
    finalize = reinterpret_cast<Finalize *>(function("plumed_plumedmain_finalize"));
    if (create == nullptr || command == nullptr || finalize == nullptr) {
        reasons += "\n  " + path + ": not a PLUMED kernel of version 2.5 or later";
        return false;
    }
    path_ = path;
    return true;
}

void *PlumedKernel::function(const char *name) const {
    return dlsym(handle_, name);
}

bool PlumedKernel::shares_mpi() const {
    // dlsym on the handle searches the kernel and the libraries it was linked with. A kernel without MPI has no such
    // function, and one built with another MPI has another one: it would not understand our communicator.
    return function("MPI_Comm_size") == reinterpret_cast<void *>(&MPI_Comm_size);
}

Plumed::Plumed(const PlumedKernel &kernel): kernel_(kernel), object_(kernel.create(), kernel.finalize) {
    if (object_ == nullptr) {
        throw PlumedError("the PLUMED kernel " + kernel.path() + " could not start");
    }
}

void Plumed::send(const std::string &key, const void *value) const {
    try {
        kernel_.command(object_.get(), key.c_str(), value);
    } catch (const std::exception &failure) {
        std::string text;
        append_messages(failure, text);
        throw PlumedError(text);
    } catch (...) {
        throw PlumedError("PLUMED stopped with an unknown exception in '" + key + "'");
    }
}

}  // namespace QNEP
