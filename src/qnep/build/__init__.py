"""Cells to start from: slabs, carbon, SEI crystals, electrolytes, interfaces, product fragments."""

from qnep.build.carbon import graphite_basal, graphite_edge, slit_pore
from qnep.build.composition import Composition, compose
from qnep.build.crystals import cut_slab, make_crystal
from qnep.build.electrolyte import make_amorphous, make_electrolyte, mass_density
from qnep.build.insert import insert_fragments
from qnep.build.interface import MismatchError, Region, make_interface, match_slabs, stack_solids
from qnep.build.molecules import make_molecule
from qnep.build.output import write_all, write_extxyz, write_lammps_data
from qnep.build.packing import PackingError, pack
from qnep.build.relax import ContactError, check_contacts, push_apart

__all__ = [
    "Composition",
    "ContactError",
    "MismatchError",
    "PackingError",
    "Region",
    "check_contacts",
    "compose",
    "cut_slab",
    "graphite_basal",
    "graphite_edge",
    "insert_fragments",
    "make_amorphous",
    "make_crystal",
    "make_electrolyte",
    "make_interface",
    "make_molecule",
    "mass_density",
    "match_slabs",
    "pack",
    "push_apart",
    "slit_pore",
    "stack_solids",
    "write_all",
    "write_extxyz",
    "write_lammps_data",
]
