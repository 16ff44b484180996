"""Evaluation of many structures and its errors against references; the command `qnep eval`."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from tqdm import tqdm

from qnep._optional import require
from qnep.conventions import EV_PER_A3_IN_GPA
from qnep.io import count_frames, iread_frames
from qnep.total_charge import total_charge_in


@dataclass(frozen=True)
class Quantity:
    """Something that a model predicts and a file may hold."""

    name: str  # ASE's
    label: str
    unit: str
    factor: float  # from ASE's unit to `unit`
    is_per_atom: bool


QUANTITIES = (
    Quantity("energy", "energy", "meV/atom", 1e3, False),
    Quantity("forces", "forces", "meV/Å", 1e3, True),
    Quantity("stress", "stress", "GPa", EV_PER_A3_IN_GPA, False),
    Quantity("charges", "charges", "e", 1.0, True),
    Quantity("born_effective_charges", "Born charges", "e", 1.0, True),
    Quantity("dipole", "dipole", "e Å", 1.0, False),
)


@dataclass(frozen=True)
class ErrorRow:
    """Errors of one quantity, over all atoms or those of one element."""

    quantity: str
    unit: str
    element: str  # "all" or a symbol
    n_values: int
    rmse: float
    mean_absolute: float
    largest: float


class Comparison:
    """Pairs of reference and prediction, collected frame by frame."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)

    def add(self, atoms: Atoms, references: dict[str, Any], results: dict[str, Any]) -> None:
        """Take in the quantities of one frame that both have."""
        for quantity in QUANTITIES:
            if quantity.name not in references or quantity.name not in results:
                continue
            pair = np.array(
                [
                    np.asarray(source[quantity.name], float) * quantity.factor
                    for source in (references, results)
                ]
            )  # [2, ...]
            if quantity.name == "energy":
                pair = pair / len(atoms)
            if not quantity.is_per_atom:
                self._pairs[quantity.name, "all"].append(pair.reshape(2, -1))
                continue
            for symbol in sorted(set(atoms.symbols)):
                chosen = pair[:, atoms.symbols == symbol]
                self._pairs[quantity.name, symbol].append(chosen.reshape(2, -1))

    def pairs(self, name: str) -> dict[str, np.ndarray]:
        """The pairs of one quantity by element, each [2, n_values]: reference, prediction."""
        return {
            element: np.concatenate(parts, axis=1)
            for (quantity, element), parts in self._pairs.items()
            if quantity == name
        }

    def quantities(self) -> list[Quantity]:
        """The quantities for which there is something to compare."""
        return [quantity for quantity in QUANTITIES if self.pairs(quantity.name)]

    def rows(self) -> list[ErrorRow]:
        """Errors of every quantity: over all values, then by element where it belongs to atoms."""
        rows = []
        for quantity in self.quantities():
            by_element = self.pairs(quantity.name)
            if list(by_element) != ["all"]:
                by_element = {"all": np.concatenate(list(by_element.values()), axis=1)} | by_element
            rows += [_error_row(quantity, element, pair) for element, pair in by_element.items()]
        return rows


def _error_row(quantity: Quantity, element: str, pair: np.ndarray) -> ErrorRow:
    error = np.abs(pair[1] - pair[0])
    return ErrorRow(
        quantity.label,
        quantity.unit,
        element,
        error.size,
        float(np.sqrt(np.mean(error**2))),
        float(error.mean()),
        float(error.max()),
    )


def format_rows(rows: Iterable[ErrorRow]) -> str:
    """A table of errors for people."""
    lines = [
        f"{'quantity':<14}{'element':<9}{'values':>10}{'RMSE':>12}{'MAE':>12}{'largest':>12}  unit"
    ]
    for row in rows:
        label = row.quantity if row.element == "all" else ""
        lines.append(
            f"{label:<14}{row.element:<9}{row.n_values:>10}{row.rmse:>12.5g}{row.mean_absolute:>12.5g}"
            f"{row.largest:>12.5g}  {row.unit}"
        )
    return "\n".join(lines)


def evaluate_frames(
    calculator: Calculator, frames: Iterable[Atoms], name: str, comparison: Comparison
) -> Iterator[Atoms]:
    """Evaluate frames one by one and collect the errors against the references that they carry.

    Parameters
    ----------
    calculator : `QNEP` or another calculator with a setting ``total_charge``.
    frames : structures with their references in ``atoms.calc``; a total charge may stand in ``atoms.info`` as
        ``charge`` or ``total_charge``.
    name : of their file, for messages.
    comparison : is added to.

    Yields
    ------
    Copies of the frames with the results in a single-point calculator.

    Raises
    ------
    ValueError : a frame that the model cannot describe; the text names file and frame.
    """
    default_charge = float(calculator.parameters["total_charge"])
    for index, frame in enumerate(frames):
        references = dict(frame.calc.results) if frame.calc is not None else {}
        try:
            total_charge = total_charge_in(frame.info)
            calculator.set(total_charge=default_charge if total_charge is None else total_charge)
            results = _evaluate(calculator, frame, references)
        except ValueError as failure:
            raise ValueError(f"{name}, frame {index}: {failure}") from failure
        comparison.add(frame, references, results)
        output = frame.copy()
        output.calc = SinglePointCalculator(output, **results)
        yield output


def _evaluate(calculator: Calculator, frame: Atoms, references: dict[str, Any]) -> dict[str, Any]:
    """Results that ASE knows by name; Born charges only where there are references, because they cost time."""
    results = {}
    for name in ("energy", "forces", "stress", "charges", "dipole"):
        try:
            results[name] = calculator.get_property(name, frame)
        except PropertyNotImplementedError:
            continue
    if (
        "born_effective_charges" in references
        and "born_effective_charges" in calculator.implemented_properties
    ):
        results["born_effective_charges"] = calculator.get_property("born_effective_charges", frame)
    if "polarizability" in calculator.implemented_properties:
        frame.info["polarizability"] = calculator.get_property("polarizability", frame)
    return results


def plot_parity(comparison: Comparison, path: str) -> None:
    """Draw prediction against reference for every quantity, atoms coloured by element, and save the picture."""
    pyplot = require("matplotlib.pyplot", extra="analysis")
    quantities = comparison.quantities()
    if not quantities:
        raise ValueError(
            "a parity plot needs references, the structures carry none that the model predicts"
        )
    figure, axes = pyplot.subplots(
        1,
        len(quantities),
        figsize=(4.2 * len(quantities), 4.2),
        squeeze=False,
        layout="constrained",
    )
    for axis, quantity in zip(axes[0], quantities):
        _draw_parity(axis, quantity, comparison)
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def _draw_parity(axis: Any, quantity: Quantity, comparison: Comparison) -> None:
    by_element = comparison.pairs(quantity.name)
    everything = np.concatenate(list(by_element.values()), axis=1)
    for element, pair in by_element.items():
        axis.plot(
            *pair,
            ".",
            markersize=3,
            alpha=0.6,
            label=None if element == "all" else element,
            rasterized=True,
        )
    margin = 0.04 * (np.ptp(everything) or 1.0)
    limits = (everything.min() - margin, everything.max() + margin)
    axis.plot(limits, limits, "-", color="0.4", linewidth=0.8, zorder=0)
    axis.set(xlim=limits, ylim=limits, aspect="equal")
    axis.set_xlabel(f"reference, {quantity.unit}")
    axis.set_ylabel(f"model, {quantity.unit}")
    rmse = np.sqrt(np.mean((everything[1] - everything[0]) ** 2))
    axis.set_title(f"{quantity.label}: RMSE {rmse:.3g} {quantity.unit}", fontsize=10)
    if list(by_element) != ["all"]:
        axis.legend(markerscale=3, frameon=False)


# --- the command ------------------------------------------------------------------------------------------------------


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `qnep eval`."""
    parser = subparsers.add_parser(
        "eval",
        help="energies, forces, stress, charges of structures; errors against references",
        description="Evaluate a model on all structures of a file. Where the file carries references, a table of "
        "errors is printed.",
    )
    parser.add_argument("model", help="model file, as nep.txt")
    parser.add_argument("structures", help="extended XYZ or another format that ASE reads")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the structures with results, extended XYZ"
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw prediction against reference (png, pdf, svg)"
    )
    parser.add_argument("--kspace", choices=("auto", "ewald", "pppm"), default="auto")
    parser.add_argument(
        "--total-charge",
        type=float,
        default=0.0,
        metavar="E",
        help="e; a frame's own charge= has precedence",
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="K", help="for temperature models"
    )
    parser.add_argument("--precision", choices=("double", "single"), default="double")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate the structures of a file, write and compare them.

    Raises
    ------
    ValueError : there are no structures in the file, or one that the model cannot describe.
    """
    from qnep.calculator import QNEP

    if options.plot:
        require("matplotlib", extra="analysis")
    calculator = QNEP(
        options.model,
        total_charge=options.total_charge,
        kspace=options.kspace,
        temperature=options.temperature,
        precision=options.precision,
        n_threads=options.threads,
        skin=0.0,
    )
    comparison = Comparison()
    structures = iread_frames(options.structures)
    first = next(structures, None)
    if first is None:
        raise ValueError(f"{options.structures}: no structures in the file")
    frames = tqdm(
        chain([first], structures),
        total=count_frames(options.structures),
        unit="frame",
        disable=None,
    )
    evaluated = evaluate_frames(calculator, frames, options.structures, comparison)
    n_frames = (
        _write(evaluated, Path(options.output)) if options.output else sum(1 for _ in evaluated)
    )
    print(
        f"{n_frames} frames evaluated"
        + (f", written to {options.output}" if options.output else "")
    )
    if comparison.quantities():
        print(format_rows(comparison.rows()))
    if options.plot:
        plot_parity(comparison, options.plot)


def _write(frames: Iterable[Atoms], path: Path) -> int:
    """Write frames as they come; the file gets its name when it is whole."""
    partial = path.with_name(path.name + ".part")
    n_frames = 0
    with partial.open("w") as file:
        for frame in frames:
            write_extxyz(file, frame)
            n_frames += 1
    partial.replace(path)
    return n_frames
