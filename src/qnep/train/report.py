"""What a finished training is judged by: errors by element and category, worst structures, plots, a model card."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import qnep
from qnep._optional import require
from qnep.files import write_atomically
from qnep.train.batch import BatchBuilder
from qnep.train.dataset import DataSet
from qnep.train.forward import Forward
from qnep.train.frames import Frame, hash_frames
from qnep.train.parameters import ParameterLayout
from qnep.train.settings import Settings

if TYPE_CHECKING:
    from qnep.model import Model
    from qnep.train.member import Member

log = logging.getLogger(__name__)

N_WORST = 10
CARD_FILE = "model_card.md"
LARGEST_PLOT = 20000  # points per set


@dataclass(frozen=True)
class FrameErrors:
    """Predictions of one structure beside their references.

    energies : predicted and reference, eV/atom.
    forces : predicted and reference, [2, n_atoms, 3], eV/Å.
    virials : predicted and reference, [2, 9], eV/atom, or None without reference.
    """

    frame: Frame
    energies: tuple[float, float]
    forces: np.ndarray
    virials: np.ndarray | None

    @property
    def energy_error(self) -> float:
        return self.energies[0] - self.energies[1]

    @property
    def force_errors(self) -> np.ndarray:
        return self.forces[0] - self.forces[1]


def predict_frames(
    model: Model, frames: Sequence[Frame], precision: str = "double"
) -> list[FrameErrors]:
    """Evaluate a model on structures, one after the other."""
    layout = ParameterLayout(model)
    builder = BatchBuilder(model, precision)
    parameters = np.array(model.parameters)
    forward = Forward(layout, torch.from_numpy(parameters[model.scaler_offset : model.zbl_offset]))
    vector = torch.from_numpy(layout.to_vector(parameters))
    results = []
    for frame in frames:
        batch = builder.build([frame], [0])
        with torch.no_grad():
            prediction = forward(vector, batch)
        forces = np.empty((frame.n_atoms, 3))
        forces[batch.original.numpy()] = prediction.forces.numpy()
        virials = None
        if frame.virial is not None:
            virials = (
                np.stack([prediction.virials[0].numpy(), frame.virial.ravel()]) / frame.n_atoms
            )
        assert frame.energy is not None and frame.forces is not None  # required when loaded
        energies = (float(prediction.energies[0]) / frame.n_atoms, frame.energy / frame.n_atoms)
        results.append(FrameErrors(frame, energies, np.stack([forces, frame.forces]), virials))
    return results


def error_table(results: Sequence[FrameErrors]) -> dict[str, float]:
    """Return the root mean square errors in meV/atom and meV/Å; energies of weight 0 are left out.

    Quantities without any reference have no key.
    """
    energies = [result.energy_error for result in results if result.frame.energy_weight > 0]
    virials = [
        result.virials[0] - result.virials[1] for result in results if result.virials is not None
    ]
    table: dict[str, float] = {"structures": len(results)}
    if energies:
        table["energy_meV_per_atom"] = 1000 * _rms(energies)
    table["force_meV_per_A"] = 1000 * _rms([result.force_errors for result in results])
    if virials:
        table["virial_meV_per_atom"] = 1000 * _rms(virials)
    return table


def _rms(arrays: Iterable[Any]) -> float:
    values = np.concatenate([np.ravel(array) for array in arrays])
    return float(np.sqrt(np.mean(values**2)))


def errors_by_element(results: Sequence[FrameErrors], elements: Sequence[str]) -> dict[str, float]:
    """Return the root mean square force error of each element, meV/Å."""
    table = {}
    for t, symbol in enumerate(elements):
        errors = [result.force_errors[result.frame.types == t] for result in results]
        if any(map(len, errors)):
            table[symbol] = 1000 * _rms(errors)
    return table


def errors_by_category(results: Sequence[FrameErrors]) -> dict[str, dict[str, float]]:
    """Return the error table of each config_type."""
    names = sorted({result.frame.config_type for result in results})
    return {
        name or "(none)": error_table([r for r in results if r.frame.config_type == name])
        for name in names
    }


def worst_frames(results: Sequence[FrameErrors]) -> list[tuple[str, str, float, float]]:
    """Return label, category, force error (meV/Å) and energy error (meV/atom) of the structures fitted worst."""
    rows = [
        (r.frame.label, r.frame.config_type, 1000 * _rms([r.force_errors]), 1000 * r.energy_error)
        for r in results
    ]
    return sorted(rows, key=lambda row: -row[2])[:N_WORST]


def write_report(settings: Settings, member: Member, data: DataSet, folder: Path) -> None:
    """Write errors.json, loss.png, parity.png and model_card.md beside the model."""
    model = member.result()
    parts = {
        name: predict_frames(model, frames)
        for name, frames in (
            ("training", data.training),
            ("validation", data.validation),
            ("test", data.test),
        )
        if frames
    }
    errors: dict[str, dict[str, Any]] = {
        name: {
            "all": error_table(results),
            "forces by element (meV/Å)": errors_by_element(results, model.elements),
            "by category": errors_by_category(results),
            "worst": worst_frames(results),
        }
        for name, results in parts.items()
    }
    write_atomically(folder / "errors.json", json.dumps(errors, indent=1, allow_nan=False))
    write_atomically(folder / CARD_FILE, _card(settings, model, data, errors))
    _plot_history(member.progress.history, folder / "loss.png")
    _plot_parity(parts, folder / "parity.png")
    for name, table in errors.items():
        log.info("%s: %s", name, _in_words(table["all"]))


def _in_words(table: dict[str, float]) -> str:
    units = {
        "energy_meV_per_atom": "energy {:.3f} meV/atom",
        "force_meV_per_A": "forces {:.2f} meV/Å",
        "virial_meV_per_atom": "virial {:.2f} meV/atom",
    }
    return ", ".join(text.format(table[key]) for key, text in units.items() if key in table)


def _card(settings: Settings, model: Model, data: DataSet, errors: dict[str, Any]) -> str:
    """Return the model card in Markdown."""
    levels = sorted({frame.level or "not stated" for frame in data.training})
    categories = sorted({frame.config_type for frame in data.training if frame.config_type})
    lines = [
        f"# {model.token}: {' '.join(model.elements)}",
        "",
        f"- Data: {data.description}",
        f"- Fingerprint of the training data (SHA-256): `{hash_frames(data.training)}`",
        f"- Level of theory: {'; '.join(levels)}",
        f"- Categories: {', '.join(categories) or 'not stated'}",
        f"- Made with qnep {qnep.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "",
        "## Errors (root mean squares)",
        "",
        "| set | structures | energy (meV/atom) | forces (meV/Å) | virial (meV/atom) |",
        "|---|---|---|---|---|",
        *(_card_row(name, table["all"]) for name, table in errors.items()),
        "",
        "Energies of structures with energy_weight=0 are not counted. The model is only known to hold for structures "
        "like those above; errors of the training set say nothing about others.",
        "",
        "## Force errors by element (meV/Å)",
        "",
        *_element_rows(errors, model.elements),
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(
            {
                "model": asdict(settings.model),
                "training": _public(settings),
                "loss": asdict(settings.loss),
            },
            indent=1,
        ),
        "```",
        "",
    ]
    return "\n".join(lines)


def _public(settings: Settings) -> dict[str, Any]:
    """Return the training settings with file names in place of paths."""
    values = asdict(settings.training)
    for name in ("data", "validation", "test", "replay"):
        values[name] = [Path(path).name for path in values[name]]
    values["fine_tune"] = Path(values["fine_tune"]).name
    values.pop("output")
    return values


def _card_row(name: str, table: dict[str, float]) -> str:
    digits = {"energy_meV_per_atom": 2, "force_meV_per_A": 1, "virial_meV_per_atom": 1}
    errors = [f"{table[key]:.{n}f}" if key in table else "-" for key, n in digits.items()]
    return f"| {name} | {table['structures']} | {' | '.join(errors)} |"


def _element_rows(errors: dict[str, Any], elements: Sequence[str]) -> list[str]:
    rows = ["| set | " + " | ".join(elements) + " |", "|---" * (len(elements) + 1) + "|"]
    for name, table in errors.items():
        found = table["forces by element (meV/Å)"]
        rows.append(
            f"| {name} | "
            + " | ".join(f"{found[e]:.0f}" if e in found else "-" for e in elements)
            + " |"
        )
    return rows


def _pyplot() -> Any:
    matplotlib = require("matplotlib", extra="train")
    matplotlib.use("Agg")
    return require("matplotlib.pyplot", extra="train")


def _plot_history(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot the errors of every epoch."""
    pyplot = _pyplot()
    terms = [
        name.removeprefix("train_")
        for name in (history[-1] if history else {})
        if name.startswith("train_")
    ]
    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for color, term in enumerate(terms):
        for part, style in (("train", "-"), ("validation", "--")):
            points = [
                (row["epoch"], row[f"{part}_{term}"]) for row in history if f"{part}_{term}" in row
            ]
            if points:
                axis.semilogy(*zip(*points), style, color=f"C{color}", label=f"{part} {term}")
    axis.set(xlabel="epoch", ylabel="RMSE (eV/atom, eV/Å, e/atom)")
    if terms:
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _plot_parity(parts: dict[str, list[FrameErrors]], path: Path) -> None:
    """Plot predictions against references of energies and forces."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for name, results in parts.items():
        energies = np.array([r.energies for r in results if r.frame.energy_weight > 0]).reshape(
            -1, 2
        )
        forces = np.concatenate([r.forces.reshape(2, -1) for r in results], axis=1)
        step = -(-forces.shape[1] // LARGEST_PLOT)
        axes[0].plot(energies[:, 1], energies[:, 0], ".", label=name)
        axes[1].plot(forces[1, ::step], forces[0, ::step], ".", markersize=2, label=name)
    for axis, quantity in zip(axes, ("energy (eV/atom)", "force (eV/Å)")):
        axis.axline((0, 0), slope=1, color="gray", linewidth=0.8) if quantity.startswith(
            "force"
        ) else None
        axis.set(xlabel=f"reference {quantity}", ylabel=f"predicted {quantity}")
    axes[0].legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
