"""The styles inside LAMMPS: CMake of the unchanged LAMMPS takes them in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from kokkos_build import ROOT, parts_of_cache

QNEP = ROOT / "plugins" / "lammps_kokkos" / "in_tree" / "qnep.cmake"
PLUGIN_ONLY = {"qnepplugin", "qnepkkplugin"}


@pytest.fixture
def configure(tmp_path):
    """Configures LAMMPS with the given options; the folder of the build, and what CMake said."""
    parts = parts_of_cache()
    if not parts:
        pytest.skip("needs the source tree of a LAMMPS with KOKKOS (make test-kokkos)")

    def configure(*options: str) -> tuple[Path, str]:
        build = tmp_path / "build"
        command = [
            *("cmake", "-S", f"{parts['source']}/cmake", "-B", str(build), "-G", "Ninja"),
            *("-DBUILD_MPI=OFF", "-DPKG_KSPACE=ON", f"-DKokkos_ROOT={parts['kokkos']}"),
            *(f"-DWITH_{name}=OFF" for name in ("GZIP", "JPEG", "PNG", "FFMPEG", "CURL")),
            *eigen_option(),
            f"-DCMAKE_PROJECT_lammps_INCLUDE={QNEP}",
            *options,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return build, done.stdout + done.stderr

    return configure


def eigen_option() -> list[str]:
    """Where the wheel with the headers of Eigen is, if there is one."""
    cmeel = pytest.importorskip(
        "cmeel", reason="needs the headers of Eigen: pip install cmeel-eigen"
    )
    return [f"-DCMAKE_PREFIX_PATH={Path(cmeel.__file__).parents[1] / 'cmeel.prefix'}"]


def needed_sources() -> set[str]:
    """All that lies beside the plugins but what makes them plugins, and `fix plumed`."""
    sources = {
        path.stem
        for folder in ("lammps", "lammps_kokkos")
        for path in (ROOT / "plugins" / folder).glob("*.cpp")
        if "plumed" not in path.stem
    }
    return sources - PLUGIN_ONLY


@pytest.mark.parametrize("has_kokkos", [True, False])
def test_styles_are_taken_in(has_kokkos, configure):
    """Lists of styles, and the same sources as those of the plugin."""
    if shutil.which("cmake") is None or shutil.which("ninja") is None:
        pytest.skip("needs cmake and ninja")
    options = ["-DPKG_KOKKOS=ON", "-DEXTERNAL_KOKKOS=ON", "-DBUILD_OMP=ON"] if has_kokkos else []
    build, _ = configure(*options)
    styles = {
        kind: (build / "styles" / f"style_{kind}.h").read_text()
        for kind in ("pair", "fix", "compute")
    }
    for kind, text in styles.items():
        assert f'#include "qnep_{kind}_styles.h"' in text
    assert ("qnep_pair_styles_kokkos.h" in styles["pair"]) == has_kokkos
    rules = (build / "build.ninja").read_text()
    compiled = {
        name for name in needed_sources() if f"/{name}.cpp.o: CXX_COMPILER__lammps" in rules
    }
    only_kokkos = {path.stem for path in (ROOT / "plugins" / "lammps_kokkos").glob("*.cpp")}
    assert compiled == (needed_sources() if has_kokkos else needed_sources() - only_kokkos)
    assert "qnep_core" in rules


def test_without_kspace(configure):
    _, said = configure("-DPKG_KSPACE=OFF")
    assert "models with charges want -D PKG_KSPACE=ON" in " ".join(said.split())
