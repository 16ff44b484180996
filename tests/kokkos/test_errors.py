"""What the Kokkos style cannot do ends with a sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kokkos_build import KokkosBuild
from kokkos_systems import ELEMENTS, write_system

SCRIPT = """
units metal
atom_style {atom_style}
{before}
read_data system.data
pair_style {style}
pair_coeff * * nep.txt Na C O
{after}
run 0
"""
# Changes of the script, options behind those that switch KOKKOS on (None: they are left out), part of the message.
WRONG: dict[str, tuple[dict, list[str] | None, str]] = {
    "Kokkos is off": (
        {"style": "qnep/kk"},
        None,
        "pair_style qnep/kk: wanted a LAMMPS that was started with -k on, got one without",
    ),
    "newton off": (
        {},
        ["-pk", "kokkos", "newton", "off", "neigh", "half"],
        "wanted newton on, got newton off",
    ),
    "precision": (
        {"style": "qnep precision half"},
        [],
        "keyword precision: wanted double or single, got half",
    ),
    "place of the mesh": (
        {"style": "qnep kspace pppm 1e-4 kspace_on gpu"},
        [],
        "qnep/kk, keyword kspace_on: wanted device or host, got gpu",
    ),
    "second k-space": (
        {"after": "set type 1 charge 0.1\nset type 2 charge -0.1\nkspace_style pppm 1e-5"},
        [],
        "brings its own k-space solver (keyword kspace): wanted kspace_style none",
    ),
    "grade of no file": (
        {"style": "qnep grade set.txt grade.txt 1"},
        [],
        "keyword grade: wanted a readable active-set file, got set.txt",
    ),
    "electrodes without a model": (
        {
            "after": "pair_style zero 5.0\npair_coeff * *\n"
            "fix e all qnep/conp induced Na C O electrode a potential 1 group all",
        },
        [],
        "fix qnep/conp induced: wanted one pair_style qnep",
    ),
    "grade without its keyword": (
        {"after": "compute v all qnep/atom grade"},
        [],
        "compute qnep/atom grade: wanted the keyword grade of pair_style qnep, got none",
    ),
    "two atoms at one place": (
        {
            "after": "group first id 1\nset group first x 1.0 y 1.0 z 1.0\nset atom 2 x 1.0 y 1.0 z 1.0"
        },
        [],
        "pair_style qnep: atoms with ids",  # as the host style says it
    ),
    "excluded types": (
        {"after": "neigh_modify exclude type 1 3"},
        [],
        "wanted all neighbours of the atoms of the model, because a many-body model needs them, got neigh_modify",
    ),
    "atoms that have moved since": (
        {
            "after": "compute v all qnep/atom potential\nrun 0\n"
            "displace_atoms all move 0.1 0 0 units box\nwrite_dump all custom v.dump c_v"
        },
        [],
        "compute qnep/atom: wanted a force evaluation of the atoms as they are now, got none: run 0 first",
    ),
}


def switched_on(build: KokkosBuild) -> list[str]:
    """Options of lmp; one thread is enough."""
    return build.options if build.has_device else ["-k", "on", "t", "1", "-sf", "kk"]


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(case, run, kokkos_build, tmp_path):
    changes, more, message = WRONG[case]
    options = [] if more is None else switched_on(kokkos_build) + more
    write_system(tmp_path, charge_mode=2)
    defaults = {"atom_style": "charge", "before": "", "style": "qnep", "after": ""}
    done = run(SCRIPT.format(**{**defaults, **changes}), options=options)
    text = " ".join(done.screen.split())
    assert done.status != 0, text
    assert message in text, text
    if case == "two atoms at one place":
        assert re.search(r"ids (1 and 2|2 and 1) are at the same place", text), text


CRYSTAL = """
units metal
atom_style charge
lattice bcc 4.3
region all block 0 20 0 20 0 20
create_box 3 all
create_atoms 1 box
mass * 20.0
pair_style qnep
pair_coeff * * nep.txt Na C O
run 0
"""


HOLD_MEMORY = str(Path(__file__).with_name("hold_device_memory.py"))


def with_little_memory(build: KokkosBuild) -> Iterator[list[str]]:
    """Launchers that leave more and more memory: address space, or what another program leaves of the device's."""
    if build.has_device:
        for megabytes in range(400, 1600, 24):  # CUDA itself takes some hundred
            yield [sys.executable, HOLD_MEMORY, str(megabytes)]
    else:
        for megabytes in range(100, 400, 12):
            yield ["prlimit", f"--as={megabytes * 1_000_000}"]


def test_too_little_memory(run, kokkos_build, tmp_path):
    """Rising limits, until LAMMPS itself has enough and the style has not."""
    write_system(tmp_path, n_max=(8, 8))
    screens = []
    for launcher in with_little_memory(kokkos_build):
        done = run(CRYSTAL, options=switched_on(kokkos_build), launcher=launcher)
        screens.append(" ".join(done.screen.split()))
        if done.status == 0:
            break
        # On a device LAMMPS itself may end so.
        assert done.status > 0 or kokkos_build.has_device, "ended by a signal"
    messages = [text for text in screens if "bytes for each of 17000 atoms on the device" in text]
    assert messages, screens
    assert "more devices, precision mixed or a thinner neighbor skin" in messages[0]


NEXT_KOKKOS = """
#include <ostream>
namespace Kokkos {
void print_configuration(std::ostream &out, bool) {
    out << "  Kokkos Version: 99.1.2\\n  Default Device: OpenMP\\n";
}
}
"""


def test_another_kokkos(run, kokkos_build, tmp_path):
    """A library in front of Kokkos that reports another version, as another Kokkos would."""
    (tmp_path / "next.cpp").write_text(NEXT_KOKKOS)
    library = tmp_path / "next.so"
    compiler = ["c++", "-shared", "-fPIC", str(tmp_path / "next.cpp"), "-o", str(library)]
    subprocess.run(compiler, check=True)
    write_system(tmp_path)
    script = SCRIPT.format(atom_style="charge", before="", style="qnep", after="")
    options = switched_on(kokkos_build)
    done = run(script, options=options, launcher=["env", f"LD_PRELOAD={library}"])
    text = " ".join(done.screen.split())
    assert done.status > 0, text
    assert re.search(
        r"compiled against Kokkos \d+\.\d+\.\d+ for \w+, this LAMMPS runs Kokkos 99\.1\.2 for OpenMP",
        text,
    ), text


def test_plain_atom_style(run, tmp_path):
    """Models without charges need none."""
    from ase.io.lammpsdata import read_lammps_data, write_lammps_data

    write_system(tmp_path, charge_mode=0)
    path = tmp_path / "system.data"
    atoms = read_lammps_data(path, atom_style="charge", units="metal")
    write_lammps_data(path, atoms, specorder=ELEMENTS.split(), masses=True, units="metal")
    script = SCRIPT.format(atom_style="atomic", before="", style="qnep", after="")
    script += 'print "ENERGY: $(pe:%.17g)"\n'
    energies = [run(script, kokkos).value("ENERGY")[0] for kokkos in (False, True)]
    assert energies[1] == pytest.approx(energies[0], rel=1e-12)
