#!/usr/bin/env python3
"""Build a LAMMPS with the KOKKOS package to test `pair_style qnep/kk` with, for the processor or for CUDA.

Sources are those given by the user, or come from the Python package index (Kokkos, inside another package's source
archive) and from the Debian mirror that apt is set up with (LAMMPS). Only what the tests of qnep run is compiled: all
of LAMMPS but a few of its styles. The result lies in a cache folder named after everything that went into it, so that a
second call returns at once. Prints `name=value` lines: where LAMMPS, its source tree and Kokkos are.

`--backend cuda` compiles with nvcc, which needs no GPU; with `--only-plugin` Kokkos and the plugin without LAMMPS,
and registers that the kernels spill end it with an error. nvcc is that of the path (`CUDA_ROOT`), or comes from the
Python package index.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# To be changed with anything below that changes the result.
RECIPE = "1"
LAMMPS_DEBIAN = "lammps=20250204+dfsg.1-2"
LAMMPS_ARCHIVE = "lammps_20250204+dfsg.1.orig.tar.xz"
LAMMPS_SHA256 = "3671165bd52fad36734e0a9136c5bc5ecb225e03988f8c89aa13366a8b53b1c7"
DEBIAN_SUITE = "trixie"
# Its folder kokkos/ is Kokkos 4.5.1, the version that this LAMMPS is made for.
KOKKOS_SDIST = "pycompadre==1.7.6"
KOKKOS_SHA256 = "c766ec4d445ce076069be4b8c51a23ffac4ee79ea949ca86446bfd8c299b154c"

STYLE_KINDS = "angle bond compute dihedral dump fix improper pair region reader".split()  # noqa: SIM905
WANTED_STYLES = """
compute_pe compute_pe_atom compute_ke compute_ke_atom compute_temp compute_pressure compute_stress_atom
compute_centroid_stress_atom compute_heat_flux compute_property_atom compute_reduce compute_msd compute_rdf
dump_custom dump_atom
fix_nve fix_nve_limit fix_nvt fix_npt fix_nh fix_langevin fix_setforce fix_momentum fix_ave_time fix_print fix_balance
fix_deposit fix_move fix_store_state fix_evaporate fix_addforce
pair_hybrid pair_hybrid_overlay pair_lj_cut pair_zbl pair_zero pair_coul_cut
region_block region_sphere
reader_native
""".split()  # noqa: SIM905
WANTED_KOKKOS_STYLES = """
atom_vec_atomic_kokkos atom_vec_charge_kokkos compute_temp_kokkos fix_nve_kokkos fix_nh_kokkos fix_nvt_kokkos
fix_npt_kokkos fix_langevin_kokkos fix_setforce_kokkos fix_momentum_kokkos fix_property_atom_kokkos pair_kokkos
pair_hybrid_kokkos pair_hybrid_overlay_kokkos pair_lj_cut_kokkos min_cg_kokkos min_kokkos min_linesearch_kokkos
pppm_kokkos fix_minimize_kokkos fix_neigh_history_kokkos
""".split()  # noqa: SIM905
KOKKOS_STYLE_KINDS = (
    "angle atom_vec bond compute dihedral dump fix improper min mliap pair pppm region".split()  # noqa: SIM905
)
# Sources that belong to packages left out, but do not look like styles.
FOREIGN_KOKKOS = re.compile(
    r"^(sna_|meam_|mliap_|dynamical_matrix|third_order|nbin_ssa|npair_ssa|ewald)"
)


SCRIPTS = Path(__file__).resolve().parent
PLUGIN_SOURCES = SCRIPTS.parent / "plugins" / "lammps_kokkos"

# Kokkos' names of the cards' architectures.
ARCHITECTURES = {
    "sm_75": "TURING75",
    "sm_80": "AMPERE80",
    "sm_86": "AMPERE86",
    "sm_89": "ADA89",
    "sm_90": "HOPPER90",
}
# The parts of CUDA 13.0 that compiling needs, from the Python package index.
CUDA_WHEELS = {
    "nvidia-cuda-nvcc==13.0.88": "56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03",
    "nvidia-cuda-crt==13.0.88": "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
    "nvidia-nvvm==13.0.88": "c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0",
    "nvidia-cuda-runtime==13.0.96": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    "nvidia-cuda-cccl==13.0.85": "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649",
}
# What Kokkos takes from the driver, for linking where none is installed.
DRIVER_FUNCTIONS = "cuInit cuStreamGetCtx cuCtxPushCurrent_v2 cuCtxGetDevice".split()  # noqa: SIM905


class BuildError(RuntimeError):
    """Something that is missing or failed; the text says what to do."""


def run(command: list[str], folder: Path, log: Path) -> None:
    """Run a command; on failure show the end of its output."""
    with log.open("ab") as stream:
        stream.write((" ".join(command) + "\n").encode())
        stream.flush()
        status = subprocess.run(
            command, cwd=folder, stdout=stream, stderr=subprocess.STDOUT, check=False
        ).returncode
    if status != 0:
        tail = log.read_text(errors="replace").splitlines()[-30:]
        raise BuildError(f"{command[0]} failed with status {status}; {log}:\n" + "\n".join(tail))


def check_archive(path: Path, sha256: str) -> None:
    """Stop if an archive is not the one this script was written for."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise BuildError(f"{path}: wanted sha256 {sha256}, got {found}")


def debian_mirror() -> str:
    """The Debian address that apt of this machine is set up with."""
    folder = Path("/etc/apt")
    for file in [*folder.glob("sources.list.d/*"), folder / "sources.list"]:
        text = file.read_text() if file.is_file() else ""
        found = re.search(
            r"^(?:URIs:\s*|deb\s+(?:\[[^]]*\]\s*)?)(\S+/debian/?)(?:\s|$)", text, re.M
        )
        if found:
            return found[1]
    raise BuildError(
        "no Debian mirror in /etc/apt: give a source tree of LAMMPS with --lammps-source (or LAMMPS_SOURCE_DIR)"
    )


def fetch_lammps(folder: Path, log: Path) -> Path:
    """The source tree of LAMMPS from Debian."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / LAMMPS_ARCHIVE
    if not archive.exists():
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        sources = folder / "qnep.sources"
        sources.write_text(
            f"Types: deb-src\nURIs: {debian_mirror()}\nSuites: {DEBIAN_SUITE}\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
        apt = [
            "apt-get",
            f"-oDir::Etc::sourcelist={sources}",
            "-oDir::Etc::sourceparts=-",
            f"-oDir::State::lists={folder / 'lists'}",
            f"-oDir::Cache={folder / 'cache'}",
        ]
        run([*apt, "update"], folder, log)
        run([*apt, "source", "--download-only", "--tar-only", LAMMPS_DEBIAN], folder, log)
    check_archive(archive, LAMMPS_SHA256)
    return unpack(archive, folder / "lammps", "")


def fetch_kokkos(folder: Path, log: Path) -> Path:
    """The source tree of Kokkos from the Python package index."""
    folder.mkdir(parents=True, exist_ok=True)
    name, version = KOKKOS_SDIST.split("==")
    archive = folder / f"{name}-{version}.tar.gz"
    if not archive.exists():
        run(
            [
                *(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", name),
                *("--dest", str(folder), KOKKOS_SDIST),
            ],
            folder,
            log,
        )
    check_archive(archive, KOKKOS_SHA256)
    return unpack(archive, folder / "kokkos", "kokkos/")


def unpack(archive: Path, folder: Path, part: str) -> Path:
    """Unpack what lies below `part` in the archive's only top folder."""
    if folder.exists():
        return folder
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            inner = member.name.partition("/")[2]
            if inner.startswith(part) and inner != part and (member.isfile() or member.isdir()):
                member.name = inner[len(part) :]
                tar.extract(member, partial, **safe_filter())
    partial.rename(folder)
    return folder


def safe_filter() -> dict:
    """The argument that keeps archives inside their folder, where this Python has it."""
    return {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def is_optional(stem: str, kinds: Iterable[str]) -> bool:
    """Whether a source is a style of one of the kinds (`fix_nve`), not the class behind all of them (`fix`)."""
    return any(stem.startswith(kind + "_") for kind in kinds)


def included_headers(path: Path) -> list[str]:
    """Stems of the headers that a file names."""
    return re.findall(r'^\s*#\s*include\s+"(\w+)\.h"', path.read_text(errors="replace"), re.M)


def needed_stems(folders: list[Path], optional: set[str], wanted: set[str]) -> set[str]:
    """The optional sources to keep: the wanted ones and whatever the kept ones include."""
    stems = {path.stem for folder in folders for path in folder.glob("*.cpp")} | wanted
    kept: set[str] = set()
    waiting = [stem for stem in stems if stem not in optional or stem in wanted]
    while waiting:
        stem = waiting.pop()
        if stem in kept:
            continue
        kept.add(stem)
        for folder in folders:
            for suffix in (".cpp", ".h"):
                if (folder / f"{stem}{suffix}").exists():
                    waiting += included_headers(folder / f"{stem}{suffix}")
    return kept


def copy_needed(source: Path, target: Path) -> None:
    """Copy the base of LAMMPS, KSPACE, PLUGIN and KOKKOS, without the styles that nothing here uses."""
    base, kokkos = source / "src", source / "src" / "KOKKOS"
    packages = [base / "KSPACE", base / "PLUGIN"]
    optional = {p.stem for p in base.glob("*.cpp") if is_optional(p.stem, STYLE_KINDS)}
    optional |= {p.stem for p in packages[0].glob("*.cpp") if is_optional(p.stem, ["pair", "fix"])}
    optional_kokkos = {
        p.stem
        for p in kokkos.glob("*.cpp")
        if is_optional(p.stem, KOKKOS_STYLE_KINDS) or FOREIGN_KOKKOS.match(p.stem)
    }
    kept = needed_stems(
        [base, *packages, kokkos],
        optional | optional_kokkos,
        {*WANTED_STYLES, *WANTED_KOKKOS_STYLES},
    )
    dropped = (optional | optional_kokkos) - kept

    def ignore(folder: str, names: list[str]) -> list[str]:
        if Path(folder) == base:
            packages_kept = {"KSPACE", "PLUGIN", "KOKKOS", "STUBS", "fmt", "nlohmann"}
            others = [n for n in names if (base / n).is_dir() and n not in packages_kept]
        else:
            others = []
        return others + [n for n in names if Path(n).stem in dropped]

    for name in ("cmake", "third_party"):
        if (source / name).exists():
            shutil.copytree(source / name, target / name)
    shutil.copytree(base, target / "src", ignore=ignore)
    for name in ("lib", "python", "tools", "doc"):
        (target / name).mkdir()
    for path in [*source.glob("LICENSE"), *source.glob("README")]:
        shutil.copy(path, target)


def ccache_option() -> list[str]:
    """Use ccache where it is."""
    return ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []


def unpack_wheels(wheels: dict[str, str], downloads: Path, folder: Path, log: Path) -> Path:
    """Wheels of CUDA's parts, unpacked into one folder that looks like an installed toolkit."""
    if folder.exists():
        return folder
    downloads.mkdir(parents=True, exist_ok=True)
    wanted = downloads / "cuda.txt"
    wanted.write_text(
        "".join(f"{name} --hash=sha256:{sha256}\n" for name, sha256 in wheels.items())
    )
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    pip += ["--require-hashes", "--dest", str(downloads / "wheels"), "--requirement", str(wanted)]
    run(pip, downloads, log)
    for name in wheels:
        stem, version = name.replace("-", "_").split("==")
        (wheel,) = (downloads / "wheels").glob(f"{stem}-{version}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                # nvidia/cu13/bin/nvcc
                place = member.filename.split("/", 2)
                if place[0] == "nvidia" and len(place) == 3 and not member.is_dir():
                    path = partial / place[2]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.read(member))
                    path.chmod(0o755 if "bin" in path.parts else 0o644)
    for library in [*partial.glob("lib/lib*.so.*")]:
        plain = library.with_name(library.name.partition(".so")[0] + ".so")
        if not plain.exists():
            plain.symlink_to(library.name)
    (partial / "lib64").symlink_to("lib")
    partial.rename(folder)
    return folder


def find_cuda(arguments: argparse.Namespace, log: Path) -> Path:
    """The CUDA toolkit: the one with the nvcc of the path, or from wheels."""
    given = os.environ.get("CUDA_ROOT")
    nvcc = shutil.which("nvcc", path=f"{given}/bin" if given else None)
    if nvcc is None:
        return unpack_wheels(
            CUDA_WHEELS, arguments.cache / "sources", arguments.cache / "cuda-13.0", log
        )
    # Not by the place of the file on the path, which may be a script that calls the real one.
    said = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True, check=False)
    found = re.search(r"^#\$ TOP=(.+)$", said.stderr, re.M)
    if found is None:
        raise BuildError(f"{nvcc} --dryrun: wanted a line with TOP=, got: {said.stderr[:500]}")
    return Path(found[1]).resolve()


def driver_library(folder: Path, log: Path) -> Path:
    """A library to link with in the place of the driver's, which the loader takes where the program runs."""
    # By its file name no loader takes it for the real one.
    path = folder / "stubs" / "libcuda_stub.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        source = path.with_name("libcuda.c")
        source.write_text(
            "".join(f"int {name}(void) {{ return 1; }}\n" for name in DRIVER_FUNCTIONS)
        )
        run(
            ["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", str(source), "-o", str(path)],
            folder,
            log,
        )
    return path


def compiler_options(
    arguments: argparse.Namespace, folder: Path, wrapper: Path, more_flags: str = ""
) -> list[str]:
    """Compiler and flags; `wrapper` is Kokkos' own, for CUDA."""
    if arguments.backend == "openmp":
        return ["-DCMAKE_CXX_FLAGS=-O2 -DNDEBUG", *ccache_option()]
    log = folder / "build.log"
    # Kokkos asks for a compiler of this name.
    compiler = folder / "compiler" / wrapper.name
    compiler.parent.mkdir(parents=True, exist_ok=True)
    cuda = find_cuda(arguments, log)
    text = f"#!/bin/sh\nexport QNEP_NVCC_WRAPPER={wrapper} CUDA_ROOT={cuda}\n"
    text += f'exec {sys.executable} {SCRIPTS}/cuda_compiler.py "$@"\n'
    if not compiler.exists() or compiler.read_text() != text:
        compiler.write_text(text)
        compiler.chmod(0o755)
    flags = (
        f"-O2 -DNDEBUG -arch={arguments.arch} -include {SCRIPTS / 'kokkos_cuda13.h'} {more_flags}"
    )
    return [
        f"-DCMAKE_CXX_FLAGS={flags}",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        f"-DCUDAToolkit_ROOT={cuda}",
        f"-DCUDA_cuda_driver_LIBRARY={driver_library(folder, log)}",
        # Programs need the driver's functions only through Kokkos, and only where they run.
        "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--allow-shlib-undefined",
    ]


def kokkos_options(arguments: argparse.Namespace) -> list[str]:
    """The backends."""
    if arguments.backend == "openmp":
        return ["-DKokkos_ENABLE_OPENMP=ON", "-DKokkos_ENABLE_SERIAL=ON"]
    return [
        "-DKokkos_ENABLE_SERIAL=ON",
        "-DKokkos_ENABLE_CUDA=ON",
        f"-DKokkos_ARCH_{ARCHITECTURES[arguments.arch]}=ON",
        "-DKokkos_ENABLE_IMPL_CUDA_MALLOC_ASYNC=OFF",
    ]


def find_cufft(arguments: argparse.Namespace, log: Path) -> tuple[Path, Path] | None:
    """Library and folder of headers, of the toolkit or of the folder that the user gave."""
    for place in (arguments.cufft, find_cuda(arguments, log)):
        libraries = sorted(place.glob("lib*/libcufft.so*")) if place is not None else []
        if libraries and (place / "include" / "cufft.h").exists():
            return libraries[0], place / "include"
    return None


def headers_of_cufft(source: Path, target: Path) -> Path:
    """A folder with the headers of cuFFT alone: beside them may lie those of another CUDA than the compiler's."""
    target.mkdir(exist_ok=True)
    for header in [*source.glob("cufft*.h"), *source.glob("cudalibxt.h")]:
        shutil.copy(header, target)
    return target


def build_kokkos(arguments: argparse.Namespace, folder: Path) -> None:
    """Compile Kokkos, unless an installed one is given, and lay out the sources of LAMMPS."""
    log = folder / "build.log"
    downloads = arguments.cache / "sources"
    common = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=None", "-DBUILD_SHARED_LIBS=ON"]
    ninja = ["ninja", f"-j{arguments.jobs}", "-C"]
    kokkos = arguments.kokkos_root
    if kokkos is None:
        kokkos = folder / "kokkos"
        source = arguments.kokkos_source or fetch_kokkos(downloads, log)
        options = compiler_options(arguments, folder, source / "bin" / "nvcc_wrapper")
        options += kokkos_options(arguments)
        build_folder = folder / "build-kokkos"
        run(
            [
                *("cmake", "-S", str(source), "-B", str(build_folder), *common, *options),
                f"-DCMAKE_INSTALL_PREFIX={kokkos}",
            ],
            folder,
            log,
        )
        run([*ninja, str(build_folder), "install"], folder, log)
        shutil.rmtree(build_folder)
    source = folder / "lammps"
    shutil.rmtree(source, ignore_errors=True)
    copy_needed(arguments.lammps_source or fetch_lammps(downloads, log), source)


def build_lammps(arguments: argparse.Namespace, folder: Path, kokkos: Path) -> None:
    """Compile LAMMPS."""
    log = folder / "build.log"
    options = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=None", "-DBUILD_SHARED_LIBS=ON"]
    flags = ""
    if arguments.backend == "openmp":
        options += ["-DBUILD_OMP=ON", "-DFFT_KOKKOS=KISS"]
    else:
        cufft = find_cufft(arguments, log)
        options += ["-DBUILD_OMP=OFF", f"-DFFT_KOKKOS={'KISS' if cufft is None else 'CUFFT'}"]
        if cufft is not None:
            options.append(f"-DCUDA_cufft_LIBRARY={cufft[0]}")
            flags = f"-I{headers_of_cufft(cufft[1], folder / 'cufft')}"
    options += compiler_options(arguments, folder, kokkos / "bin" / "nvcc_wrapper", flags)
    options += ["-DBUILD_MPI=ON", "-DEXTERNAL_KOKKOS=ON", "-DFFT=KISS"]
    options += [f"-DPKG_{package}=ON" for package in ("KOKKOS", "PLUGIN", "KSPACE")]
    options += [f"-DWITH_{name}=OFF" for name in ("GZIP", "JPEG", "PNG", "FFMPEG", "CURL")]
    options += [f"-DMPI_CXX_COMPILER={arguments.mpicxx}", f"-DKokkos_ROOT={kokkos}"]
    source, build_folder = folder / "lammps" / "cmake", folder / "build-lammps"
    run(["cmake", "-S", str(source), "-B", str(build_folder), *options], folder, log)
    run(["ninja", f"-j{arguments.jobs}", "-C", str(build_folder)], folder, log)


def build_plugin(arguments: argparse.Namespace, folder: Path, kokkos: Path) -> None:
    """Compile plugins/lammps_kokkos of this checkout, as far as its sources changed."""
    build_folder, log = folder / "plugin", folder / "plugin.log"
    log.unlink(missing_ok=True)
    options = [f"-DLAMMPS_SOURCE_DIR={folder / 'lammps'}", f"-DKokkos_ROOT={kokkos}"]
    options += [f"-DMPI_CXX_COMPILER={arguments.mpicxx}", *eigen_option()]
    if arguments.backend == "openmp":
        options += ccache_option()
    else:
        wrapper = kokkos / "bin" / "nvcc_wrapper"
        options += compiler_options(arguments, folder, wrapper, "-Xptxas=-v")
    run(
        ["cmake", "-S", str(PLUGIN_SOURCES), "-B", str(build_folder), "-G", "Ninja", *options],
        folder,
        log,
    )
    started = time.time()
    run(["ninja", f"-j{arguments.jobs}", "-C", str(build_folder)], folder, log)
    if arguments.backend == "cuda":
        check_registers(log, arguments.allow_spills)
    # Sources that change during the build count as newer than it.
    stamp = build_folder / "built"
    stamp.touch()
    os.utime(stamp, (started, started))


def check_registers(log: Path, allows_spills: bool) -> None:
    """Stop, or say so, if a kernel that was compiled now keeps numbers in memory because it has too few registers."""
    text = log.read_text(errors="replace")
    kernels = re.findall(
        r"Compiling entry function '(\w+)'.*\n.*\n.*?(\d+) bytes spill stores.*\n.*Used (\d+) registers",
        text,
    )
    spilling = [f"{name}: {stores} bytes" for name, stores, _ in kernels if stores != "0"]
    said = "registers are spilled by\n" + "\n".join(spilling)
    if spilling and not allows_spills:
        raise BuildError(said)
    if spilling:
        print(f"warning: {said}")
    elif kernels:
        most = max(int(registers) for _, _, registers in kernels)
        print(f"{len(kernels)} kernels compiled, none spills, at most {most} registers")


def eigen_option() -> list[str]:
    """Where the headers of Eigen are, if this Python has the wheel with them."""
    found = importlib.util.find_spec("cmeel")
    if found is None or found.origin is None:
        return []
    return [f"-DCMAKE_PREFIX_PATH={Path(found.origin).parents[1] / 'cmeel.prefix'}"]


def recipe(arguments: argparse.Namespace) -> str:
    """What the result depends on, as a short name."""
    compiler = subprocess.run(
        ["c++", "--version"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[0]
    given = (arguments.lammps_source, arguments.kokkos_source, arguments.kokkos_root)
    contents = [*WANTED_STYLES, *WANTED_KOKKOS_STYLES, LAMMPS_SHA256, KOKKOS_SHA256]
    parts = [RECIPE, compiler, str(arguments.mpicxx), *map(str, given), *contents]
    if arguments.backend == "cuda":
        parts += [arguments.backend, arguments.arch, str(arguments.cufft)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def folder_argument(text: str) -> Path:
    """An existing folder, absolute."""
    path = Path(text).expanduser().resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"wanted a folder, got {text}")
    return path


def from_environment(name: str) -> Path | None:
    """A folder that an environment variable names."""
    return folder_argument(os.environ[name]) if os.environ.get(name) else None


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--lammps-source",
        type=folder_argument,
        default=from_environment("LAMMPS_SOURCE_DIR"),
        help="source tree of LAMMPS 4Feb2025 or newer (also: LAMMPS_SOURCE_DIR)",
    )
    parser.add_argument("--kokkos-source", type=folder_argument, help="source tree of Kokkos")
    parser.add_argument(
        "--kokkos-root",
        type=folder_argument,
        default=from_environment("Kokkos_ROOT"),
        help="an installed Kokkos (also: Kokkos_ROOT)",
    )
    parser.add_argument(
        "--cache", type=lambda text: Path(text).resolve(), default=Path(cache_home, "qnep-kokkos")
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--mpicxx", default=shutil.which("mpicxx"), help="MPI compiler wrapper")
    parser.add_argument("--backend", choices=["openmp", "cuda"], default="openmp")
    parser.add_argument("--arch", choices=list(ARCHITECTURES), default="sm_90", help="for CUDA")
    parser.add_argument(
        "--cufft",
        type=folder_argument,
        help="folder with lib/ and include/ of cuFFT, where the CUDA toolkit has none",
    )
    parser.add_argument("--only-plugin", action="store_true", help="do not compile LAMMPS")
    parser.add_argument(
        "--allow-spills",
        action="store_true",
        help="for CUDA: kernels that spill registers, which are slow and right, are no error",
    )
    parser.add_argument("--find", action="store_true", help="do not build, only look in the cache")
    return parser.parse_args()


def once(stamp: Path, make: Callable[..., None], *arguments: object) -> None:
    """Make something unless its stamp says that it was made before."""
    if not stamp.exists():
        make(*arguments)
        stamp.touch()


def main() -> int:
    """Build unless it was built before, and say where it is."""
    arguments = parse_arguments()
    try:
        if arguments.mpicxx is None:
            raise BuildError(
                "no mpicxx on the path: give one with --mpicxx (the package mpich has it)"
            )
        folder = arguments.cache / recipe(arguments)
        kokkos = arguments.kokkos_root or folder / "kokkos"
        if not arguments.find:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "finished").exists():
                once(folder / "finished-kokkos", build_kokkos, arguments, folder)
            with ThreadPoolExecutor() as pool:  # two that need not wait for each other
                parts = [pool.submit(build_plugin, arguments, folder, kokkos)]
                if not arguments.only_plugin:
                    stamp = folder / "finished"
                    parts.append(pool.submit(once, stamp, build_lammps, arguments, folder, kokkos))
                for part in parts:
                    part.result()
        elif not (folder / "finished").exists():
            raise BuildError(f"not built yet: run scripts/{Path(__file__).name}")
        elif not (folder / "plugin" / "built").exists():
            raise BuildError(f"plugin not built yet: run scripts/{Path(__file__).name}")
    except BuildError as failure:
        print(f"build_lammps_kokkos: {failure}", file=sys.stderr)
        return 1
    if not arguments.only_plugin:
        print(f"lmp={folder / 'build-lammps' / 'lmp'}")
    print(f"source={folder / 'lammps'}")
    print(f"kokkos={kokkos}")
    print(f"plugin={folder / 'plugin'}")
    print(f"mpicxx={arguments.mpicxx}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
