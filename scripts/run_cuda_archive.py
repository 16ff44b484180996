#!/usr/bin/env python3
"""Build what this archive holds, test it and measure its speed, without a network.

`python3 run.py` does all for the NVIDIA GPU of this machine; `python3 run.py --backend openmp` the same on the
processor. Needs nvcc (not for openmp), a C++17 compiler, and Python with pip 22.3 or newer. Everything is written
below the folder of this file, and what is to be kept into the folder --output: summary.txt with the outcome and the
time of each step, gpu-results.md with the figures, and results.tar with the logs and the results of the tests. The logs
of a step lie beside it until the step is over, so that they are there if it is killed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
QNEP = HERE / "qnep"
ENVIRONMENT = HERE / "env"
OPTIONS = {
    # MPI of the wheel knows nothing of GPUs.
    "cuda": "-k on g 1 -sf kk -pk kokkos newton on neigh half gpu/aware off",
    "openmp": "-k on t 2 -sf kk",
}
HOST_TESTS = "routes committee dynamics heat_flux conp electric grade".split()  # noqa: SIM905
STEPS = ["build", "test", "sanitize", "benchmark"]
SANITIZERS = ["memcheck", "racecheck", "synccheck"]
KEPT_AS_FILES = ("summary.txt", "gpu-results.md", "results.tar")
# Takes nearly all memory of the device, so no other test may run at that time.
ALONE = "tests/kokkos/test_errors.py::test_too_little_memory"
SANITIZED = """
import sys
from pathlib import Path
from kokkos_systems import write_system
write_system(Path(sys.argv[1]), n_atoms=120, lengths=(12.0, 13.0, 14.0), charge_mode=1, n_max=(8, 8))
"""
SANITIZED_INPUT = """
units metal
atom_style charge
read_data system.data
pair_style qnep kspace pppm 1e-4 precision {precision}
pair_coeff * * nep.txt Na C O
compute virials all stress/atom NULL virial
compute born all qnep/atom born
thermo_style custom step pe press
dump all all custom 1 all.dump id fx fy fz c_virials[1] c_born[1]
fix move all nve
run 2
"""


class StepError(RuntimeError):
    """A step that failed; the text says how."""


class Runner:
    """Starts programs in the environment of the archive and keeps what they say."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.output: Path = arguments.output
        self.variables = {
            **os.environ,
            "PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
            "CMAKE_BUILD_PARALLEL_LEVEL": str(arguments.jobs),
            "OMP_NUM_THREADS": "1",
            # Threads that spin at barriers take for ever on a machine that is busy otherwise.
            "OMP_PROC_BIND": "false",
            "OMP_WAIT_POLICY": "passive",
            "MPLBACKEND": "Agg",
            "PYTHONUNBUFFERED": "1",
        }
        if arguments.backend == "openmp" and shutil.which("ccache") is not None:
            # Package and plugin hold the same core; nvcc is none of the compilers that ccache is sure of.
            self.variables["CMAKE_CXX_COMPILER_LAUNCHER"] = "ccache"
        if arguments.backend == "cuda" and shutil.which("nvcc") is None:
            for nvcc in sorted(Path("/usr/local").glob("cuda*/bin/nvcc")):
                self.variables["CUDA_ROOT"] = str(nvcc.parents[1])

    def run(self, name: str, command: list[str], folder: Path = QNEP) -> str:
        """What a program said, which goes to the end of NAME.log as well; raises StepError if it failed."""
        log = self.output / f"{name}.log"
        with log.open("ab") as stream:
            begin = stream.tell()
            status = subprocess.run(
                command,
                cwd=folder,
                env=self.variables,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                check=False,
            ).returncode
        text = log.read_bytes()[begin:].decode(errors="replace")
        if status != 0:
            raise StepError(f"{name}: status {status}\n" + "\n".join(text.splitlines()[-15:]))
        return text

    def python(self, name: str, *arguments: str) -> str:
        """The same for the Python of the environment."""
        return self.run(name, [str(ENVIRONMENT / "bin" / "python"), *arguments])

    def pack(self, step: str) -> None:
        """Put the files of a step into one, because few files are easier to carry home."""
        folder = time.strftime(f"%Y%m%d-%H%M%S-{step}")
        try:
            with tarfile.open(self.output / "results.tar", "a") as tar:
                for path in sorted(self.output.iterdir()):
                    if path.is_file() and path.name not in KEPT_AS_FILES:
                        tar.add(path, f"{folder}/{path.name}")
                        path.unlink()
        except (OSError, tarfile.TarError) as failure:  # then they stay as they are
            print(f"results.tar: {failure}", file=sys.stderr, flush=True)


def make_environment(runner: Runner) -> None:
    """A Python environment with the wheels of the archive, and behind them the packages of the machine."""
    if (ENVIRONMENT / "finished").exists():
        return
    runner.run(
        "environment", [sys.executable, "-m", "venv", "--without-pip", str(ENVIRONMENT)], HERE
    )
    (packages,) = ENVIRONMENT.glob("lib/python*/site-packages")
    (packages / "machine.pth").write_text("".join(f"{path}\n" for path in site.getsitepackages()))
    wheels = map(str, sorted((HERE / "wheels").glob("*.whl")))
    runner.run(
        "environment",
        [*pip(), "install", "--no-index", "--no-deps", "--ignore-installed", *wheels],
        HERE,
    )
    (ENVIRONMENT / "finished").touch()


def pip() -> list[str]:
    """pip of this machine, for the environment."""
    return [sys.executable, "-m", "pip", "--python", str(ENVIRONMENT / "bin" / "python")]


def build_package(runner: Runner) -> None:
    """The Python package of qnep, unless its wheel came with the others or it is installed."""
    stamp, folder = ENVIRONMENT / "installed-qnep", HERE / "own-wheel"
    if stamp.exists() or list((HERE / "wheels").glob("qnep-*.whl")):
        return
    command = [*pip(), "wheel", "--no-index", "--no-deps", "--no-build-isolation"]
    command += ["-C", "cmake.define.QNEP_LAMMPS_PLUGIN=OFF", "--wheel-dir", str(folder), "."]
    runner.run("package", command)
    (wheel,) = folder.glob("qnep-*.whl")
    options = ["--no-index", "--no-deps", "--force-reinstall"]
    runner.run("package", [*pip(), "install", *options, str(wheel)])
    stamp.touch()


def architecture() -> str:
    """Of the GPU of this machine; that of the H100 and H200 where nvidia-smi is missing."""
    if shutil.which("nvidia-smi") is None:
        return "sm_90"
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return "sm_" + found[0].replace(".", "") if found else "sm_90"


def cufft_option() -> list[str]:
    """cuFFT among the Python packages of this machine; the toolkit's own is found without."""
    for packages in site.getsitepackages():
        for folder in ("cu13", "cufft"):
            place = Path(packages) / "nvidia" / folder
            if list(place.glob("lib/libcufft.so*")) and (place / "include" / "cufft.h").exists():
                return ["--cufft", str(place)]
    return []


def build_lammps(runner: Runner) -> None:
    """LAMMPS, Kokkos and the plugin; where they are is kept in parts.txt."""
    arguments = runner.arguments
    command = ["scripts/build_lammps_kokkos.py", "--backend", arguments.backend]
    command += ["--jobs", str(arguments.jobs), "--cache", str(HERE / "build")]
    command += ["--lammps-source", str(HERE / "lammps"), "--kokkos-source", str(HERE / "kokkos")]
    command += ["--mpicxx", str(ENVIRONMENT / "bin" / "mpicxx")]
    if arguments.backend == "cuda":
        command += ["--arch", arguments.arch or architecture(), *cufft_option(), "--allow-spills"]
    parts = re.findall(r"^\w+=\S+$", runner.python("build", *command), re.MULTILINE)
    (HERE / "parts.txt").write_text("\n".join(parts) + "\n")


def build(runner: Runner) -> str:
    """Everything that is compiled."""
    make_environment(runner)
    with ThreadPoolExecutor() as pool:
        parts = [pool.submit(build_lammps, runner), pool.submit(build_package, runner)]
        for part in parts:
            part.result()
    return "built"


def use_build(runner: Runner) -> None:
    """Tell tests and benchmark what was built."""
    if not (HERE / "parts.txt").exists():
        raise StepError("nothing is built yet: begin with --steps build")
    parts = dict(line.split("=", 1) for line in (HERE / "parts.txt").read_text().splitlines())
    runner.variables |= {
        "QNEP_KOKKOS_LAMMPS": parts["lmp"],
        "QNEP_KOKKOS_PLUGIN": parts["plugin"],
        "QNEP_KOKKOS_OPTIONS": OPTIONS[runner.arguments.backend],
        "QNEP_SHARED_DATA": str(HERE / "shared" / "data"),
    }


def test(runner: Runner) -> str:
    """The tests of the Kokkos style, and those of the host style with it in its place."""
    use_build(runner)
    runner.variables["PYTHONPATH"] = "tests/kokkos"
    workers = ["-n", str(runner.arguments.workers)]
    host_tests = [f"tests/lammps/test_{part}.py" for part in HOST_TESTS]
    calls = {
        "tests-kokkos": [*workers, "-m", "long or not long", "tests/kokkos", "--deselect", ALONE],
        "tests-host-style": [*workers, "-p", "host_tests_with_kokkos", *host_tests],
        "tests-memory": [ALONE],
    }

    def call(name: str) -> str:
        options = ["-v", "-p", "no:cacheprovider", f"--junitxml={runner.output / name}.xml"]
        options += runner.arguments.pytest
        said = runner.python(name, "-m", "pytest", *options, *calls[name])
        return last_line(said).strip("= ")

    return try_all(calls, call)


def last_line(text: str) -> str:
    """Of what a program said."""
    return (text.splitlines() or ["nothing said"])[-1]


def try_all(names: Iterable[str], action: Callable[[str], str]) -> str:
    """The outcomes of all; raises StepError with them if one failed, after the others were tried."""
    said, has_failed = [], False
    for name in names:
        try:
            said.append(f"{name}: {action(name)}")
        except StepError as failure:
            has_failed = True
            said.append(str(failure))
    if has_failed:
        raise StepError("\n".join(said))
    return "; ".join(said)


def find_sanitizer(runner: Runner) -> str | None:
    """compute-sanitizer, of the path or of the toolkit."""
    nvcc, root = shutil.which("nvcc"), runner.variables.get("CUDA_ROOT")
    if nvcc is not None:
        root = str(Path(nvcc).resolve().parents[1])
    folders = [None, *([f"{root}/bin", f"{root}/compute-sanitizer"] if root else [])]
    found = (shutil.which("compute-sanitizer", path=folder) for folder in folders)
    return next((program for program in found if program is not None), None)


def sanitize(runner: Runner) -> str:
    """NVIDIA's checkers of memory and races, where they are."""
    use_build(runner)
    checker = find_sanitizer(runner)
    if runner.arguments.backend != "cuda" or checker is None:
        return "left out: no compute-sanitizer for this backend or on this machine"
    folder = HERE / "sanitize"
    folder.mkdir(exist_ok=True)
    runner.variables["PYTHONPATH"] = str(QNEP / "tests" / "kokkos")
    runner.python("sanitize", "-c", SANITIZED, str(folder))
    lammps = [runner.variables["QNEP_KOKKOS_LAMMPS"], *OPTIONS["cuda"].split()]
    runner.variables["LAMMPS_PLUGIN_PATH"] = runner.variables["QNEP_KOKKOS_PLUGIN"]

    def check(name: str) -> str:
        tool, precision = name.split()
        (folder / "in.check").write_text(SANITIZED_INPUT.format(precision=precision))
        command = [checker, "--tool", tool, "--error-exitcode", "9", *lammps]
        command += ["-in", "in.check", "-log", "none"]
        screen = runner.run("sanitize", command, folder)
        summaries = re.findall(r"^=+ (.*SUMMARY.*)$", screen, re.MULTILINE)
        return summaries[-1] if summaries else f"ended well, without a summary: {last_line(screen)}"

    checks = [f"{tool} {precision}" for precision in ("double", "mixed") for tool in SANITIZERS]
    return try_all(checks, check)


def benchmark(runner: Runner) -> str:
    """The speeds; their section of RESULTS.md."""
    use_build(runner)
    runner.variables["QNEP_BENCH_SIZES"] = runner.arguments.sizes
    runner.python("benchmark", "benchmarks/run.py", "gpu")
    text = (QNEP / "benchmarks" / "RESULTS.md").read_text()
    section = text.partition("<!-- begin gpu -->")[2].partition("<!-- end gpu -->")[0]
    (runner.output / "gpu-results.md").write_text(section)
    if "FAILED" in section:
        raise StepError(section.strip())
    return section.strip()


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    n_processors = len(os.sched_getaffinity(0))
    parser.add_argument("--backend", choices=list(OPTIONS), default="cuda")
    parser.add_argument("--arch", help="of the GPU, as sm_90; default: what nvidia-smi says")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--jobs", type=int, default=n_processors, help="compilers at a time")
    parser.add_argument(
        "--workers", type=int, default=max(1, n_processors // 2), help="tests at a time"
    )
    parser.add_argument("--sizes", default="1000 27000 250000 1000000", help="of the benchmark")
    parser.add_argument(
        "--output",
        type=lambda text: Path(text).resolve(),  # the programs run in other folders
        default=Path(os.environ.get("OUT") or HERE / "results").resolve(),
    )
    parser.add_argument("--pytest", nargs=argparse.REMAINDER, default=[], help="options of pytest")
    return parser.parse_args()


def main() -> int:
    """Run the steps; one that fails does not keep the others from being tried."""
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    runner = Runner(arguments)
    has_failed = False
    with (arguments.output / "summary.txt").open("a") as summary:
        for step in arguments.steps:
            started = time.time()
            try:
                outcome = "passed: " + {
                    "build": build,
                    "test": test,
                    "sanitize": sanitize,
                    "benchmark": benchmark,
                }[step](runner)
            except StepError as failure:
                has_failed = True
                outcome = f"FAILED: {failure}"
            except Exception:  # what nobody thought of must not cost the other steps
                has_failed = True
                outcome = f"FAILED: {traceback.format_exc()}"
            line = f"{step} ({arguments.backend}), {time.time() - started:.0f} s, {outcome}"
            print(line, flush=True)
            print(line, file=summary, flush=True)
            runner.pack(step)
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
