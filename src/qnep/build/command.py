"""The command `qnep build`: one line makes a cell that a simulation can start from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from qnep.build.carbon import LAYER_SPACING, graphite_basal, graphite_edge, slit_pore
from qnep.build.composition import SALTS
from qnep.build.crystals import BCC_METALS, CRYSTALS, cut_slab, make_crystal
from qnep.build.electrolyte import make_amorphous, make_electrolyte
from qnep.build.insert import PLACES, insert_fragments
from qnep.build.interface import make_interface, match_slabs, stack_solids
from qnep.build.molecules import SOLVENTS, make_molecule
from qnep.build.output import ENDINGS, summary, write_all

CARBONS = ("graphite-basal", "graphite-edge", "graphene", "slit-pore")
SOLIDS = (*BCC_METALS, *CRYSTALS, *CARBONS)
MOLARITY = 1.0  # mol/L, of a salt that is named without one
EPILOG = """examples:
  qnep build interface --solid Na --solvent EC --salt NaPF6 --molarity 1 --atoms 1000 -o na_ec
  qnep build electrolyte --solvent EC:1 DMC:1 --salt NaPF6 --molarity 0.5 --atoms 1500 -o ec_dmc
  qnep build interface --solid graphite-basal --sei Na2CO3 --solvent EC --salt NaPF6 --molarity 1 --atoms 3000 -o c_sei
  qnep build slab --solid Na --facet 110 --thickness 12 --width 20 -o na110
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep build`."""
    parser = subparsers.add_parser(
        "build",
        help="build slabs, electrolytes, interfaces, product fragments",
        description="Build a cell and write it as extended XYZ, LAMMPS data, a picture and a summary.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(metavar="KIND", required=True)
    for name, make, text, groups in (
        ("interface", _interface, "electrolyte on a solid", (_add_solid, _add_electrolyte)),
        ("electrolyte", _electrolyte, "periodic box of electrolyte", (_add_electrolyte,)),
        ("slab", _slab, "a solid alone", (_add_solid,)),
        ("molecule", _molecule, "one molecule in a box", (_add_molecule,)),
    ):
        kind = kinds.add_parser(name, help=text)
        for add in groups:
            add(kind)
        _add_output(kind)
        kind.set_defaults(run=run, make=make)
    interface = kinds.choices["interface"]
    interface.add_argument("--electrodes", type=int, choices=(1, 2), default=1)
    interface.add_argument("--gap", type=float, default=2.0, help="Å between solid and electrolyte")


def run(options: argparse.Namespace) -> None:
    """Build what was asked for, write it and print its numbers."""
    _use_known_names(options)
    atoms = options.make(options)
    for text in getattr(options, "insert", None) or []:
        atoms = insert_fragments(atoms, *_parse_fragment(text), seed=options.seed)
    paths = write_all(atoms, _stem(options.output), options.types)
    for name, value in summary(atoms, options.types or sorted(set(atoms.symbols))).items():
        print(f"{name}: {value}")
    print("written: " + ", ".join(str(path) for path in paths))


def _use_known_names(options: argparse.Namespace) -> None:
    """Write the names of solids and salts as the tables do, whatever their case; other molecules may be SMILES."""
    for option, known in (("solid", SOLIDS), ("sei", CRYSTALS), ("salt", SALTS)):
        given = getattr(options, option, None)
        if given is None:
            continue
        names = {name.lower(): name for name in known}
        if given.lower() not in names:
            raise ValueError(f"unknown {option} {given!r}; there are {', '.join(known)}")
        setattr(options, option, names[given.lower()])


def _stem(output: Path) -> Path:
    """The name without an ending that the files get anyway; other dots, as in na_1.0M, belong to it."""
    return output.with_suffix("") if output.suffix in (*ENDINGS, ".xyz") else output


# --- what can be built ---------------------------------------------------------------------------------------------


def _interface(options: argparse.Namespace) -> Atoms:
    return make_interface(
        _solid(options, _default_width(options.atoms)),
        _parse_solvents(options.solvent),
        options.salt,
        _molarity(options),
        n_atoms=options.atoms,
        density=options.density,
        n_electrodes=options.electrodes,
        gap=options.gap,
        seed=options.seed,
    )


def _electrolyte(options: argparse.Namespace) -> Atoms:
    return make_electrolyte(
        _parse_solvents(options.solvent),
        options.salt,
        _molarity(options),
        n_atoms=options.atoms,
        density=options.density,
        seed=options.seed,
    )


def _molarity(options: argparse.Namespace) -> float:
    """mol/L; what is given goes on to be refused where there is no salt."""
    if options.molarity is not None:
        return float(options.molarity)
    return MOLARITY if options.salt else 0.0


def _slab(options: argparse.Namespace) -> Atoms:
    solid = _solid(options, options.width or 0.0)
    atoms = Atoms(solid.numbers, solid.positions, cell=solid.cell, pbc=(True, True, False))
    atoms.center(
        vacuum=options.vacuum / 2, axis=2
    )  # an atom at an open face leaves the box at once
    atoms.arrays["molecule_id"] = np.zeros(len(atoms), int)
    return atoms


def _molecule(options: argparse.Namespace) -> Atoms:
    atoms = make_molecule(options.name, options.seed)
    atoms.arrays["molecule_id"] = np.ones(len(atoms), int)
    atoms.center(vacuum=options.vacuum / 2)
    atoms.pbc = True
    return atoms


def _solid(options: argparse.Namespace, default_width: float) -> Atoms:
    """The electrode, with its SEI where one is wanted."""
    # Carbon and SEI are several times denser than Na: thinner and narrower, so that most atoms are electrolyte.
    is_dense = options.solid in CARBONS or options.sei is not None
    width = options.width or (0.7 * default_width if is_dense else default_width)
    thickness = options.thickness or (6.0 if is_dense else max(10.0, 0.5 * width))
    if options.sei is None:
        return _electrode(options, thickness, width)
    sei_thickness = options.sei_thickness
    electrode = _electrode(options, thickness, 0.0)
    if options.amorphous:
        electrode = _electrode(options, thickness, width)
        cell = electrode.cell.array.copy()
        cell[2] = [0.0, 0.0, sei_thickness]
        return stack_solids([electrode, make_amorphous(options.sei, cell, seed=options.seed)])
    facet = _parse_facet(options.sei_facet)
    cover = cut_slab(make_crystal(options.sei), facet, sei_thickness)
    electrode, cover, strain = match_slabs(electrode, cover, width, options.max_strain)
    print(f"strain of {options.sei}: {100 * strain:.2f} %")
    return stack_solids([electrode, cover])


def _electrode(options: argparse.Namespace, thickness: float, width: float) -> Atoms:
    n_layers = max(1, round(thickness / LAYER_SPACING))
    if options.solid == "graphene":
        return graphite_basal(1, width)
    if options.solid == "graphite-basal":
        return graphite_basal(n_layers, width)
    if options.solid == "graphite-edge":
        n_across = 2 * max(1, int(np.ceil(width / (2 * LAYER_SPACING))))
        return graphite_edge(n_across, thickness, width)
    if options.solid == "slit-pore":
        return slit_pore(options.pore_width, 3, thickness, width)
    crystal = make_crystal(options.solid, options.lattice_constant)
    return cut_slab(crystal, _parse_facet(options.facet), thickness, width)


def _default_width(n_atoms: int) -> float:
    """Å; with the default thickness about a sixth of the atoms are metal."""
    return 20.0 * (n_atoms / 1000) ** (1 / 3)


# --- what the words mean -------------------------------------------------------------------------------------------


def _parse_solvents(words: list[str]) -> dict[str, float]:
    """["EC:1", "DMC:2"] as {"EC": 1.0, "DMC": 2.0}; the share is 1 where none is given."""
    shares: dict[str, float] = {}
    for word in words:
        name, _, share = word.rpartition(":") if _ends_in_number(word) else (word, "", "1")
        shares[name] = float(share)
    return shares


def _ends_in_number(word: str) -> bool:
    name, colon, share = word.rpartition(":")
    return bool(name and colon and share.replace(".", "", 1).isdigit())


def _parse_facet(text: str) -> tuple[int, int, int]:
    """ "110", or "1,-1,0" where an index is negative or has two digits."""
    words = text.split(",") if "," in text else list(text)
    try:
        h, k, l = (int(word) for word in words)
    except ValueError:
        raise ValueError(f"a facet is written like 110 or 1,-1,0, got {text!r}") from None
    return h, k, l


def _parse_fragment(text: str) -> tuple[str, int, str]:
    """ "NaF:3:interface" as ("NaF", 3, "interface")."""
    words = text.rsplit(":", 2)
    if len(words) != 3 or not words[1].isdigit():
        raise ValueError(
            f"--insert takes NAME:COUNT:PLACE with a place of {', '.join(PLACES)}, got {text!r}"
        )
    return words[0], int(words[1]), words[2]


def _add_solid(parser: argparse.ArgumentParser) -> None:
    group: Any = parser.add_argument_group("solid")
    group.add_argument("--solid", default="Na", help=f"{', '.join(SOLIDS)}; default %(default)s")
    group.add_argument("--facet", default="100", help="Miller indices, default %(default)s")
    group.add_argument("--thickness", type=float, help="Å, at least; half the width by default")
    group.add_argument("--width", type=float, help="Å in the plane, at least")
    group.add_argument("--lattice-constant", type=float, help="Å; of the literature by default")
    group.add_argument("--pore-width", type=float, default=8.0, help="Å, of slit-pore")
    group.add_argument("--sei", help=f"layer on the solid: {', '.join(CRYSTALS)}")
    group.add_argument("--sei-facet", default="001")
    group.add_argument("--sei-thickness", type=float, default=8.0, help="Å")
    group.add_argument("--amorphous", action="store_true", help="ions of the SEI packed at random")
    group.add_argument("--max-strain", type=float, default=0.05, help="of the SEI on the solid")


def _add_electrolyte(parser: argparse.ArgumentParser) -> None:
    group: Any = parser.add_argument_group("electrolyte")
    group.add_argument(
        "--solvent",
        nargs="+",
        required=True,
        metavar="NAME[:SHARE]",
        help=f"{', '.join(SOLVENTS)} or SMILES, with shares by volume",
    )
    group.add_argument("--salt", help=", ".join(SALTS))
    group.add_argument("--molarity", type=float, help=f"mol/L of the salt, default {MOLARITY:g}")
    group.add_argument(
        "--density", type=float, help="g/cm³ of the electrolyte; estimated by default"
    )
    group.add_argument("--atoms", type=int, default=1000, help="of the whole cell, about")
    group.add_argument(
        "--insert",
        action="append",
        metavar="NAME:COUNT:PLACE",
        help=f"products or intermediates; places: {', '.join(PLACES)}",
    )


def _add_molecule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="name or SMILES")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("cell"),
        help="files are OUTPUT.extxyz, .data, .png, .json",
    )
    parser.add_argument("--types", nargs="+", help="elements in the order of LAMMPS types")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vacuum", type=float, default=12.0, help="Å, of slab and molecule")
