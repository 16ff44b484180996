"""The scripts that build for CUDA: which compiler a source goes to, and what counts as a kernel without room."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
from kokkos_build import ROOT


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
    build.check_registers(log)
    assert "2 kernels compiled, none spills, at most 168 registers" in capsys.readouterr().out
    log.write_text(fine + PTXAS.format(stack=64, spill=12, registers=255))
    with pytest.raises(build.BuildError, match="registers are spilled by\n_Z6kernelv: 12 bytes"):
        build.check_registers(log)
