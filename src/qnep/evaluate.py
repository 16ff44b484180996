"""Evaluation of many structures and its errors against references; the command `qnep eval`."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from tqdm import tqdm

from qnep._optional import require
from qnep.conventions import EV_PER_A3_IN_GPA
from qnep.files import check_replaceable
from qnep.io import check_output, count_frames, iread_frames, write_frames
from qnep.total_charge import total_charge_in

if TYPE_CHECKING:
    from qnep.calculator import QNEP


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
    Quantity("polarizability", "polarizability", "as trained", 1.0, False),
)

POLARIZABILITY_KEY = "pol"  # of the comment line; ASE has no name for it


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
    """Pairs of reference and prediction, collected frame by frame.

    References that are not finite, as of a quantity that was not calculated, are left out; `n_left_out` counts them by
    the label of their quantity.
    """

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
        self.n_left_out: dict[str, int] = defaultdict(int)

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
                self._keep(quantity, "all", pair.reshape(2, -1))
                continue
            for symbol in sorted(set(atoms.symbols)):
                chosen = pair[:, atoms.symbols == symbol]
                self._keep(quantity, symbol, chosen.reshape(2, -1))

    def _keep(self, quantity: Quantity, element: str, pair: np.ndarray) -> None:
        is_known = np.isfinite(pair[0])
        if is_known.any():
            self._pairs[quantity.name, element].append(pair[:, is_known])
        if not is_known.all():
            self.n_left_out[quantity.label] += int((~is_known).sum())

    def pairs(self, name: str) -> dict[str, np.ndarray]:
        """The pairs of one quantity by element, each [2, n_values]: reference, prediction."""
        return {
            element: np.concatenate(parts, axis=1)
            for (quantity, element), parts in self._pairs.items()
            if quantity == name
        }

    def quantities(self) -> list[Quantity]:
        """The quantities for which there is something to compare."""
        compared = {name for name, _ in self._pairs}
        return [quantity for quantity in QUANTITIES if quantity.name in compared]

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
        f"{'quantity':<15}{'element':<9}{'values':>10}{'RMSE':>12}{'MAE':>12}{'largest':>12}  unit"
    ]
    for row in rows:
        label = row.quantity if row.element == "all" else ""
        lines.append(
            f"{label:<15}{row.element:<9}{row.n_values:>10}{row.rmse:>12.5g}{row.mean_absolute:>12.5g}"
            f"{row.largest:>12.5g}  {row.unit}"
        )
    return "\n".join(lines)


def evaluate_frames(
    calculator: QNEP, frames: Iterable[Atoms], name: str, comparison: Comparison
) -> Iterator[Atoms]:
    """Evaluate frames one by one and collect the errors against the references that they carry.

    Parameters
    ----------
    calculator : keeps its settings.
    frames : structures with their references in ``atoms.calc``; that of the polarizability stands in ``atoms.info`` as
        ``pol``. A total charge (e, as ``charge`` or ``total_charge``) and, for a model of the free energy, a
        ``temperature`` (K) in ``atoms.info`` have precedence over those of the calculator.
    name : of their file, for messages.
    comparison : is added to.

    Yields
    ------
    Copies of the frames with the results in a single-point calculator, the polarizability in ``info`` as ``pol``.

    Raises
    ------
    ValueError : a frame that the model cannot describe; the text names file and frame.
    """
    model = calculator.model
    defaults = {key: calculator.parameters[key] for key in ("total_charge", "temperature")}
    try:
        for index, frame in enumerate(frames):
            try:
                references = _references(frame)
                calculator.set(**(defaults | _conditions(frame, model.has_temperature)))
                results = _evaluate(calculator, frame, references)
                comparison.add(frame, references, results)
            except ValueError as failure:
                raise ValueError(f"{name}, frame {index}: {failure}") from failure
            yield _with_results(frame, results)
    finally:
        calculator.set(**defaults)


def _references(frame: Atoms) -> dict[str, Any]:
    references = dict(frame.calc.results) if frame.calc is not None else {}
    if POLARIZABILITY_KEY in frame.info:
        polarizability = np.asarray(frame.info[POLARIZABILITY_KEY])
        if polarizability.size != 9 or polarizability.dtype.kind not in "fiu":
            raise ValueError(
                f"{POLARIZABILITY_KEY} must be nine numbers, got {frame.info[POLARIZABILITY_KEY]!r}"
            )
        references["polarizability"] = polarizability.reshape(3, 3)
    return references


def _conditions(frame: Atoms, has_temperature: bool) -> dict[str, Any]:
    """What a frame says about itself that the model depends on, as settings of the calculator."""
    conditions: dict[str, Any] = {}
    total_charge = total_charge_in(frame.info)
    if total_charge is not None:
        conditions["total_charge"] = total_charge
    if has_temperature and "temperature" in frame.info:
        conditions["temperature"] = frame.info["temperature"]
    return conditions


def _evaluate(calculator: QNEP, frame: Atoms, references: dict[str, Any]) -> dict[str, Any]:
    """Everything that the model gives; Born charges only where there are references, because they cost time."""
    # Born charges first: their evaluation gives the other results as well.
    names = ["energy", "forces", "stress", "charges", "dipole", "polarizability"]
    if "born_effective_charges" in references:
        names.insert(0, "born_effective_charges")
    results = {}
    for name in names:
        try:
            results[name] = calculator.get_property(name, frame)
        except PropertyNotImplementedError:
            continue
    return results


def _with_results(frame: Atoms, results: dict[str, Any]) -> Atoms:
    output = frame.copy()
    results = dict(results)
    if "polarizability" in results:
        # Nine numbers in a row: ASE writes a matrix in a way that only ASE reads.
        output.info[POLARIZABILITY_KEY] = results.pop("polarizability").ravel()
    output.calc = SinglePointCalculator(output, **results)
    return output


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
    parser.add_argument(
        "structures", help="extended XYZ or another format that ASE reads; - for standard input"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the structures with results, extended XYZ (also .xyz.gz)",
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
        "--temperature",
        type=float,
        metavar="K",
        help="for models of the free energy; a frame's own temperature= has precedence",
    )
    parser.add_argument("--precision", choices=("double", "single"), default="double")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate the structures of a file, write and compare them.

    Raises
    ------
    ValueError : there are no structures in the file, or one that the model cannot describe; the picture or the output
        cannot be written where they shall stand.
    """
    from qnep.calculator import QNEP

    _check_files(options)
    calculator = QNEP(
        options.model,
        total_charge=options.total_charge,
        kspace=options.kspace,
        temperature=options.temperature,
        precision=options.precision,
        n_threads=options.threads,
        skin=0.0,
    )
    if options.total_charge and calculator.model.charge_mode == 0:
        raise ValueError(
            f"--total-charge is for models with charges, {calculator.model.token} has none"
        )
    comparison = Comparison()
    structures = iread_frames(options.structures)
    first = next(structures, None)
    if first is None:
        raise ValueError(f"{options.structures}: no structures in the file")
    frames = tqdm(
        chain([first], structures),
        total=count_frames(options.structures) if sys.stderr.isatty() else None,
        unit="frame",
        disable=None,
    )
    evaluated = evaluate_frames(calculator, frames, options.structures, comparison)
    n_frames = (
        write_frames(options.output, evaluated) if options.output else sum(1 for _ in evaluated)
    )
    print(
        f"{n_frames} frames evaluated"
        + (f", written to {options.output}" if options.output else "")
    )
    if comparison.quantities():
        print(format_rows(comparison.rows()))
    if comparison.n_left_out:
        counts = ", ".join(f"{label} {n}" for label, n in comparison.n_left_out.items())
        print(f"left out, because the reference is not finite: {counts}")
    if options.plot:
        plot_parity(comparison, options.plot)


def _check_files(options: argparse.Namespace) -> None:
    """Raise ValueError if what shall be written cannot be, or would take the place of what is read."""
    if options.plot:
        _check_picture(Path(options.plot))
    if not options.output:
        return
    output = Path(options.output)
    check_output(output)
    for source in (Path(options.model), Path(options.structures)):
        if output.exists() and source.exists() and output.samefile(source):
            raise ValueError(f"{output}: is read, so it cannot be written at the same time")


def _check_picture(path: Path) -> None:
    backend = require("matplotlib.backend_bases", extra="analysis")
    suffixes = [f".{suffix}" for suffix in backend.FigureCanvasBase.get_supported_filetypes()]
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"{path}: wanted the name of a picture, which ends in {', '.join(suffixes)}"
        )
    check_replaceable(path)
