"""The scripts for CUDA: compilers, headers, kernels without room, and what the archive does when something fails."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import sys
import tarfile
from types import ModuleType, SimpleNamespace

import bench_gpu
import hold_device_memory
import host_tests_with_kokkos
import pytest
from kokkos_build import ROOT, KokkosBuild


def script(name: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sources(tmp_path):
    """A source that reaches Kokkos through two headers in different folders, and one that does not."""
    headers = tmp_path / "headers"
    headers.mkdir()
    (headers / "type.h").write_text("#if FLAG\n#  include <Kokkos_Core.hpp>\n#endif\n")
    (tmp_path / "style.h").write_text('#include "type.h"\n#include "style.h"\n')
    (tmp_path / "device.cpp").write_text('#include "style.h"\n')
    (tmp_path / "plain.cpp").write_text('#include <vector>\n#include "nowhere.h"\n')
    return tmp_path


FLAGS = [
    "-DONE=1",
    "-arch=sm_90",
    "-include",
    "first.h",
    "-extended-lambda",
    "-Xptxas=-v",
    "-Iheaders",
]
FLAGS += ["-O2", "-DNDEBUG", "-O3", "-DNDEBUG"]


def test_sources_of_kokkos_go_to_nvcc(sources, monkeypatch):
    compiler = script("cuda_compiler")
    monkeypatch.setenv("QNEP_NVCC_WRAPPER", "wrapper")
    monkeypatch.chdir(sources)
    arguments = [*FLAGS, "-c", str(sources / "device.cpp"), "-o", "device.o"]
    assert compiler.command(arguments) == ["wrapper", *arguments]
    assert compiler.command(["--version"]) == ["wrapper", "--version"]
    assert compiler.command(["a.o", "-o", "lmp"])[0] == "wrapper"


def test_other_sources_go_to_the_compiler_of_the_host(sources, monkeypatch):
    compiler = script("cuda_compiler")
    monkeypatch.setenv("QNEP_NVCC_WRAPPER", "wrapper")
    monkeypatch.setenv("NVCC_WRAPPER_DEFAULT_COMPILER", "c++")
    monkeypatch.setattr(compiler.shutil, "which", lambda name: None)
    plain = str(sources / "plain.cpp")
    chosen = compiler.command([*FLAGS, "-c", plain, "-o", "plain.o"])
    wanted = ["c++", "-DONE=1", "-Iheaders", "-O3", "-DNDEBUG", "-c", plain, "-o", "plain.o"]
    assert chosen == wanted


PTXAS = """
ptxas info    : Compiling entry function '_Z6kernelv' for 'sm_90'
ptxas info    : Function properties for _Z6kernelv
    {stack} bytes stack frame, {spill} bytes spill stores, {spill} bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers, 232 bytes cumulative stack size
"""


def test_registers(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    build = script("build_lammps_kokkos")
    log = tmp_path / "log"
    fine = PTXAS.format(stack=232, spill=0, registers=168)
    log.write_text(fine + PTXAS.format(stack=0, spill=0, registers=40))
    build.check_registers(log, allows_spills=False)
    assert "2 kernels compiled, none spills, at most 168 registers" in capsys.readouterr().out
    log.write_text(fine + PTXAS.format(stack=64, spill=12, registers=255))
    with pytest.raises(build.BuildError, match="registers are spilled by\n_Z6kernelv: 12 bytes"):
        build.check_registers(log, allows_spills=False)
    build.check_registers(log, allows_spills=True)
    assert "warning: registers are spilled by\n_Z6kernelv: 12 bytes" in capsys.readouterr().out


def test_no_headers_but_those_of_cufft(tmp_path, monkeypatch):
    """Wheels keep those of all of CUDA in one folder, which comes before the compiler's own."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    build = script("build_lammps_kokkos")
    names = {"cufft.h", "cufftXt.h", "cudalibxt.h"}
    (tmp_path / "include").mkdir()
    for name in (*names, "cuda_runtime.h"):
        (tmp_path / "include" / name).touch()
    folder = build.headers_of_cufft(tmp_path / "include", tmp_path / "cufft")
    assert {path.name for path in folder.iterdir()} == names


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """The script of the archive, unpacked in a folder where everything is built."""
    module = script("run_cuda_archive")
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts.txt").write_text("lmp=/x/lmp\nplugin=/x\n")
    return module


def arguments(archive, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    found = archive.parse_arguments()
    found.output.mkdir(exist_ok=True)
    return found


def test_archive_goes_on_after_a_surprise(archive, tmp_path, monkeypatch):
    """Every step is tried, and few files are left, in the folder that was meant."""

    def surprised(runner):
        (runner.output / "build.log").write_text("what it said")
        raise UnicodeError("nobody thought of this")

    def left_in_pieces(runner):
        for k in range(20):
            (runner.output / f"{k}.log").touch()
        return "12 passed"

    monkeypatch.setattr(archive, "build", surprised)
    monkeypatch.setattr(archive, "test", left_in_pieces)
    words = ["run.py", "--steps", "build", "test", "--output", "kept", "--backend", "openmp"]
    monkeypatch.setattr(sys, "argv", words)
    assert archive.parse_arguments().output == tmp_path / "kept"
    assert archive.main() == 1
    summary = (tmp_path / "kept" / "summary.txt").read_text()
    assert "nobody thought of this" in summary
    assert "passed: 12 passed" in summary
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"summary.txt", "results.tar"}
    with tarfile.open(tmp_path / "kept" / "results.tar") as tar:
        names = [name.split("-", 2)[2] for name in tar.getnames()]
    assert len(names) == 21
    assert {"build/build.log", "test/0.log"} < set(names)


def test_memory_of_the_device_is_taken_when_no_other_test_runs(archive, monkeypatch):
    """All three calls of pytest are made, though the first fails."""
    calls = {}

    def python(runner, name, *words):
        calls[name] = words
        if len(calls) == 1:
            raise archive.StepError("tests-kokkos: status 1")
        return "===== 3 passed in 1 s ====="

    monkeypatch.setattr(archive.Runner, "python", python)
    runner = archive.Runner(arguments(archive, monkeypatch, "--workers", "8", "--pytest", "-x"))
    with pytest.raises(archive.StepError, match="status 1\ntests-host-style: 3 passed in 1 s"):
        archive.test(runner)
    alone = [name for name, words in calls.items() if words[-1] == archive.ALONE]
    assert alone == ["tests-kokkos", "tests-memory"]
    assert calls["tests-kokkos"][-2] == "--deselect" and "-n" in calls["tests-kokkos"]
    assert "-n" not in calls["tests-memory"]
    assert all({"-v", "-x"} <= set(words) for words in calls.values())
    file, _, function = archive.ALONE.partition("::")
    assert f"def {function}(" in (ROOT / file).read_text()


def test_every_checker_is_tried(archive, tmp_path, monkeypatch):
    """One that finds something, one that says nothing of a summary."""
    answers = iter(["========= ERROR SUMMARY: 0 errors", None, "killed"] + ["==== SUMMARY x"] * 3)

    def run(runner, name, command, folder):
        answer = next(answers)
        if answer is None:
            raise archive.StepError("sanitize: status 9")
        return answer

    toolkit = tmp_path / "cuda" / "bin"
    toolkit.mkdir(parents=True)
    (toolkit / "compute-sanitizer").write_text("#!/bin/sh\n")
    (toolkit / "compute-sanitizer").chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(archive.Runner, "run", run)
    monkeypatch.setattr(archive.Runner, "python", lambda *words: "")
    runner = archive.Runner(arguments(archive, monkeypatch))
    runner.variables["CUDA_ROOT"] = str(toolkit.parent)
    with pytest.raises(archive.StepError) as failure:
        archive.sanitize(runner)
    lines = str(failure.value).splitlines()
    assert lines[:3] == [
        "memcheck double: ERROR SUMMARY: 0 errors",
        "sanitize: status 9",
        "synccheck double: ended well, without a summary: killed",
    ]
    assert len(lines) == 6


def test_a_wheel_that_was_not_installed_is_installed(archive, tmp_path, monkeypatch):
    """A kill between the two leaves the wheel."""
    monkeypatch.setattr(archive, "ENVIRONMENT", tmp_path / "env")
    (tmp_path / "env").mkdir()
    (tmp_path / "own-wheel").mkdir()
    (tmp_path / "own-wheel" / "qnep-1-py3-none-any.whl").touch()
    commands = []
    monkeypatch.setattr(archive.Runner, "run", lambda runner, name, words: commands.append(words))
    runner = archive.Runner(arguments(archive, monkeypatch))
    for _ in range(2):
        archive.build_package(runner)
    assert [words[5] for words in commands] == ["wheel", "install"]


def test_benchmark_goes_on_after_a_failing_case(monkeypatch, capsys):
    """Rows are printed one by one; that of a failure says why."""

    def run(crystal, style, n_steps):
        if "double" in style:
            raise RuntimeError("status 1: ERROR: too | little memory")
        return "Loop time of 2.0 on 1 procs"

    monkeypatch.setattr(bench_gpu, "run", run)
    monkeypatch.setattr(bench_gpu, "memory_in_use", lambda: 0)
    monkeypatch.setattr(bench_gpu, "telluride_crystal", lambda n_atoms: None)
    monkeypatch.setenv("QNEP_KOKKOS_LAMMPS", "lmp")
    monkeypatch.setenv("QNEP_BENCH_SIZES", "64 216")
    text = bench_gpu.measure()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 8
    assert "FAILED: status 1: ERROR: too / little memory" in rows[0]
    assert "| qNEP, Na shape | mixed | 64 | 640 | 10 |" in rows[1]
    assert {row.count("|") for row in text.splitlines() if row.startswith("|")} == {9}


@pytest.mark.parametrize("n_atoms", [1000, 27_000, 250_000, 1_000_000, 999_983])
def test_blocks_of_the_benchmark(n_atoms):
    block, repeats = bench_gpu.block_and_repeats(n_atoms)
    assert block <= bench_gpu.LARGEST_BLOCK
    assert block * repeats**3 == pytest.approx(n_atoms, rel=1e-3)
    assert n_atoms == 999_983 or block * repeats**3 == n_atoms


def test_runtime_of_cuda_is_found_below_its_root(tmp_path, monkeypatch):
    library = tmp_path / "lib64" / "libcudart.so.13"
    library.parent.mkdir()
    library.touch()

    def load(name):
        if name != str(library):
            raise OSError(name)
        return name

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CUDA_ROOT", str(tmp_path))
    assert hold_device_memory.runtime() == str(library)


@pytest.mark.parametrize(("options", "n_left"), [(["g", "1"], 1), (["t", "2"], 2)])
def test_tests_of_what_a_device_has_not_are_left_out(options, n_left, monkeypatch):
    names = ["test_threads_and_ranks_together[1-2]", "test_total_charge"]
    items = [
        SimpleNamespace(name=name)
        for name in [
            *names,
            "test_one_openmp_runtime_in_the_process",
            "test_atoms_come_and_go[gcmc]",
        ]
    ]
    build = KokkosBuild("lmp", "", ["-k", "on", *options])
    monkeypatch.setattr(host_tests_with_kokkos, "find_build", lambda: build)
    config = SimpleNamespace(
        hook=SimpleNamespace(pytest_deselected=lambda items: None),
        pluginmanager=SimpleNamespace(get_plugins=list),
    )
    host_tests_with_kokkos.pytest_collection_modifyitems(config, items)
    assert [item.name for item in items] == names[-n_left:]
