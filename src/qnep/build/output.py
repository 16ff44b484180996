"""What a built cell is written as: extended XYZ, LAMMPS data, a picture and a summary."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors
from ase.io import write

from qnep._optional import require
from qnep.build.electrolyte import mass_density
from qnep.build.relax import check_contacts

MAX_DRAWN = 40_000  # atoms
ENDINGS = (".extxyz", ".data", ".png", ".json")
_OF_THE_ELECTROLYTE = {"density": "electrolyte_density_g_cm3", "molarity": "molarity_mol_per_L"}


def write_all(atoms: Atoms, stem: Path, elements: Sequence[str] | None = None) -> list[Path]:
    """Write stem.extxyz, stem.data, stem.png and stem.json; returns the paths.

    Parameters
    ----------
    elements : order of the LAMMPS types; alphabetical where None. It must hold all elements of the cell and may hold
        more, as those of a model file.

    Raises
    ------
    ValueError : an element of the cell is missing in the order.
    """
    order = list(elements) if elements else sorted(set(atoms.get_chemical_symbols()))
    stem.parent.mkdir(parents=True, exist_ok=True)
    # with_suffix would cut "na_1.0M" at its dot.
    paths = [stem.with_name(stem.name + ending) for ending in ENDINGS]
    write_extxyz(atoms, paths[0])
    write_lammps_data(atoms, paths[1], order)
    draw(atoms, paths[2])
    paths[3].write_text(json.dumps(summary(atoms, order), indent=1) + "\n")
    return paths


def write_extxyz(atoms: Atoms, path: Path) -> None:
    """Write a structure with its molecule numbers, regions and charges."""
    plain = atoms.copy()
    plain.info = {name: value for name, value in atoms.info.items() if name != "molecules"}
    write(path, plain, format="extxyz")


def write_lammps_data(atoms: Atoms, path: Path, elements: Sequence[str]) -> None:
    """Write a LAMMPS data file for `units metal` and `atom_style charge`.

    Its first line names the types and the periodic directions.

    Raises
    ------
    ValueError : an element without a type.
    """
    missing = sorted(set(atoms.get_chemical_symbols()) - set(elements))
    if missing:
        raise ValueError(f"{', '.join(missing)} missing in the order of types {' '.join(elements)}")
    cell = atoms.cell.array
    types = np.array([elements.index(symbol) + 1 for symbol in atoms.get_chemical_symbols()])
    types_text = " ".join(f"{k}={name}" for k, name in enumerate(elements, 1))
    periodic = " ".join("FT"[int(value)] for value in atoms.pbc)
    lines = [
        f'qnep build; types: {types_text}; pbc="{periodic}"',
        "",
        f"{len(atoms)} atoms",
        f"{len(elements)} atom types",
        *(f"0.0 {cell[k, k]:.10f} {axis}lo {axis}hi" for k, axis in enumerate("xyz")),
    ]
    if np.abs(cell - np.diag(np.diag(cell))).max() > 1e-9:
        lines.append(f"{cell[1, 0]:.10f} {cell[2, 0]:.10f} {cell[2, 1]:.10f} xy xz yz")
    lines += ["", "Masses", ""]
    lines += [
        f"{k} {atomic_masses[atomic_numbers[name]]:.6f}  # {name}"
        for k, name in enumerate(elements, 1)
    ]
    lines += ["", "Atoms  # charge", ""]
    wrapped = atoms.copy()
    wrapped.wrap()
    charges = atoms.get_initial_charges()
    lines += [
        f"{k} {kind} {charge:.6f} {x:.8f} {y:.8f} {z:.8f}"
        for k, (kind, charge, (x, y, z)) in enumerate(zip(types, charges, wrapped.positions), 1)
    ]
    path.write_text("\n".join(lines) + "\n")


def draw(atoms: Atoms, path: Path) -> None:
    """Draw the cell seen along y, back to front, in the usual colours.

    Raises
    ------
    MissingExtra : matplotlib is not installed.
    """
    figure_module = require("matplotlib.figure", "build")
    wrapped = atoms.copy()
    wrapped.wrap()
    x, y, z = wrapped.positions.T
    order = np.argsort(-y)[-MAX_DRAWN:]
    width, height = max(np.ptp(z), 1.0), max(np.ptp(x), 1.0)
    inches = 9.0
    figure = figure_module.Figure(
        figsize=(inches, max(2.0, inches * height / width) + 0.6), dpi=120
    )
    axes = figure.add_subplot(aspect="equal", xlabel="z (Å)", ylabel="x (Å)")
    points_per_A = 72 * inches * 0.85 / width
    sizes = (1.6 * covalent_radii[atoms.numbers] * points_per_A) ** 2
    axes.scatter(
        z[order],
        x[order],
        s=sizes[order],
        c=jmol_colors[atoms.numbers][order],
        edgecolors="black",
        linewidths=min(0.5, 0.02 * points_per_A),
    )
    figure.savefig(path, bbox_inches="tight")


def summary(atoms: Atoms, elements: Sequence[str]) -> dict[str, object]:
    """Return numbers that describe a cell; raises ContactError where atoms are too close."""
    check_contacts(atoms)
    entries: dict[str, object] = {
        "formula": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "cell_A": atoms.cell.array.round(6).tolist(),
        "periodic": [bool(value) for value in atoms.pbc],
        "total_charge_e": round(float(atoms.get_initial_charges().sum()), 6),
        "mean_density_g_cm3": round(float(mass_density(atoms)), 4),
        "lammps_types": list(elements),
    }
    for name, value in atoms.info.items():
        if name != "molecules":
            entries[str(_OF_THE_ELECTROLYTE.get(name, name))] = value
    return entries
