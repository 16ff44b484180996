"""Fine-tune SevenNet-0 on few DFT frames, and label many structures with it: how `teacher.xyz.gz` was made.

    python fine_tune_teacher.py fit first.xyz test.xyz first.pt     # 24 epochs, 40 minutes of one processor
    python fine_tune_teacher.py fit train.xyz test.xyz teacher.pt --start first.pt --epochs 14 --rate 6e-4
    python fine_tune_teacher.py label teacher.pt structures.xyz labelled.xyz

The first fit was on the first 186 frames of the training set, the second on all, half an hour more.

Wants `pip install sevenn dftd3` (the checkpoint, trained on MPtrj, comes with SevenNet;
doi:10.1021/acs.jctc.4c00190). D3(BJ) is taken off the DFT labels before the fit and added again to each label; one
energy per element (`SHIFT`) is fitted along, because the two codes count energies from different zeros. Energies in eV,
forces in eV/Å, stresses in eV/Å³ (ASE's sign).
"""

from __future__ import annotations

import argparse

import numpy as np
import sevenn._keys as keys
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from dftd3.ase import DFTD3
from sevenn.atom_graph_data import AtomGraphData
from sevenn.train.dataload import atoms_to_graph
from sevenn.util import load_checkpoint, pretrained_name_to_path
from torch_geometric.loader.dataloader import Collater

ELEMENTS = ("C", "F", "H", "Na", "O", "P")
BATCH, WARM_UP = 4, 30
FORCE_DELTA, ENERGY_DELTA = 0.1, 0.02  # eV/Å, eV/atom: where Huber's loss becomes linear
ENERGY_WEIGHT, SMALL_WEIGHT, SMALL = (
    2.0,
    0.3,
    9,
)  # molecules of up to nine atoms count less in energy
LARGEST_FORCE, CLOSEST_PAIR = 25.0, 0.7  # eV/Å, Å: labels beyond are left out


def bare(atoms: Atoms) -> Atoms:
    """Return the geometry alone, periodic."""
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def dispersion(atoms: Atoms) -> Atoms:
    """Return the geometry with D3(BJ) for PBE as its calculator."""
    atoms = bare(atoms)
    atoms.calc = DFTD3(method="PBE", damping="d3bj")
    return atoms


def composition(atoms: Atoms) -> np.ndarray:
    """Return the number of atoms of each of ELEMENTS, shape (6,)."""
    symbols = atoms.get_chemical_symbols()
    return np.array([symbols.count(element) for element in ELEMENTS], dtype=float)


class Teacher:
    """SevenNet-0 with an energy per element."""

    def __init__(self) -> None:
        checkpoint = load_checkpoint(pretrained_name_to_path("7net-0"))
        self.model = checkpoint.build_model()
        self.model.set_is_batch_data(True)
        self.cutoff, self.types = checkpoint.config["cutoff"], checkpoint.config["_type_map"]
        self.shift = torch.nn.Parameter(torch.zeros(len(ELEMENTS)))
        self.collate = Collater([None], None, None)

    def parameters(self) -> dict[str, torch.Tensor]:
        return dict(self.model.named_parameters()) | {"SHIFT": self.shift}

    def load(self, values: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters().items():
                parameter.copy_(values[name])

    def graph(self, atoms: Atoms, energy: float, forces: np.ndarray) -> AtomGraphData:
        atoms = bare(atoms)
        atoms.info["y_energy"], atoms.arrays["y_force"] = energy, forces
        graph = AtomGraphData.from_numpy_dict(
            atoms_to_graph(atoms, self.cutoff, transfer_info=False)
        )
        graph[keys.NODE_FEATURE] = torch.tensor([self.types[number] for number in atoms.numbers])
        return graph

    def evaluate(self, graphs: list[AtomGraphData], is_training: bool) -> AtomGraphData:
        self.model.train(is_training)
        batch = self.collate([graph.clone() for graph in graphs])
        batch[keys.EDGE_VEC].requires_grad_(True)
        return self.model(batch)


def huber(difference: torch.Tensor, delta: float) -> torch.Tensor:
    size = difference.abs()
    return torch.where(size < delta, 0.5 * size**2 / delta, size - 0.5 * delta)


def read_targets(teacher: Teacher, path: str) -> list[tuple[AtomGraphData, np.ndarray, int, float]]:
    """Return graph (labels without dispersion), composition, atoms and energy weight of each frame."""
    targets = []
    for atoms in read(path, ":"):
        part = dispersion(atoms)
        energy = atoms.get_potential_energy() - part.get_potential_energy()
        graph = teacher.graph(atoms, energy, atoms.get_forces() - part.get_forces())
        weight = float(atoms.info.get("energy_weight", 1.0))
        weight *= 1.0 if len(atoms) > SMALL else SMALL_WEIGHT
        targets.append((graph, composition(atoms), len(atoms), weight))
    return targets


def first_shift(teacher: Teacher, targets: list) -> torch.Tensor:
    """Return the least-squares energies per element between DFT and the checkpoint as it comes, shape (6,)."""
    rows, values = [], []
    for graph, counts, n_atoms, weight in targets:
        energy = float(teacher.evaluate([graph], False)[keys.PRED_TOTAL_ENERGY].detach())
        rows.append(weight * counts / n_atoms)
        values.append(weight * (float(graph[keys.ENERGY]) - energy) / n_atoms)
    return torch.tensor(np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0])


def report(teacher: Teacher, targets: list) -> str:
    """Return the root mean square errors over a set."""
    forces, energies = [], []
    for graph, counts, n_atoms, weight in targets:
        result = teacher.evaluate([graph], False)
        forces.append((result[keys.PRED_FORCE] - graph[keys.FORCE]).detach().numpy().ravel())
        shift = float(counts @ teacher.shift.detach().numpy())
        energy = float(result[keys.PRED_TOTAL_ENERGY].detach()) + shift
        if weight:
            energies.append((energy - float(graph[keys.ENERGY])) / n_atoms)
    force, energy = (np.sqrt(np.mean(x**2)) for x in (np.concatenate(forces), np.array(energies)))
    return f"{1e3 * force:.0f} meV/Å, {1e3 * energy:.0f} meV/atom"


def fit(
    train_path: str, test_path: str, output: str, start: str | None, epochs: int, rate: float
) -> None:
    """Adam with warm-up and a cosine; what is kept is the running mean of the parameters."""
    teacher = Teacher()
    train, test = (read_targets(teacher, path) for path in (train_path, test_path))
    if start is None:
        teacher.shift.data.copy_(first_shift(teacher, train))
    else:
        teacher.load(torch.load(start, weights_only=True))
    weights = list(teacher.model.parameters())
    groups = [{"params": weights, "scale": 1.0}, {"params": [teacher.shift], "scale": 10.0}]
    optimizer = torch.optim.Adam(groups, lr=rate, amsgrad=True)
    n_steps, step, mean = epochs * -(-len(train) // BATCH), 0, None
    generator = np.random.default_rng(0)
    for epoch in range(epochs):
        order = generator.permutation(len(train))
        for first in range(0, len(order), BATCH):
            chosen = [train[index] for index in order[first : first + BATCH]]
            graphs, counts, n_atoms, energy_weights = zip(*chosen, strict=True)
            factor = min(1.0, (step + 1) / WARM_UP) * (
                0.02 + 0.49 * (1 + np.cos(np.pi * step / n_steps))
            )
            for group in optimizer.param_groups:
                group["lr"] = rate * factor * group["scale"]
            result = teacher.evaluate(list(graphs), True)
            shifts = torch.tensor(np.array(counts), dtype=torch.float32) @ teacher.shift
            energy_errors = result[keys.PRED_TOTAL_ENERGY].reshape(-1) + shifts
            energy_errors = (energy_errors - result[keys.ENERGY]) / torch.tensor(n_atoms)
            loss = huber(result[keys.PRED_FORCE] - result[keys.FORCE], FORCE_DELTA).mean()
            energy_loss = torch.tensor(energy_weights) * huber(energy_errors, ENERGY_DELTA)
            loss = loss + ENERGY_WEIGHT * energy_loss.mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 5.0)
            optimizer.step()
            step += 1
            share = min(0.99, step / (step + 10))
            now = {name: p.detach().clone() for name, p in teacher.parameters().items()}
            mean = mean or now
            mean = {name: share * mean[name] + (1 - share) * now[name] for name in now}
        torch.save(mean, output)
        print(f"epoch {epoch + 1} of {epochs}", flush=True)
    teacher.load(mean)
    print("train:", report(teacher, train), "\ntest:", report(teacher, test))


def label(checkpoint: str, source: str, target: str) -> None:
    """Write energy, forces and stress of each structure; config_type and trajectory stay."""
    teacher = Teacher()
    teacher.load(torch.load(checkpoint, weights_only=True))
    labelled, n_left_out = [], 0
    for atoms in read(source, ":"):
        distances = atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)]
        if len(distances) and distances.min() < CLOSEST_PAIR:
            n_left_out += 1
            continue
        part = dispersion(atoms)
        result = teacher.evaluate([teacher.graph(atoms, 0.0, np.zeros((len(atoms), 3)))], False)
        forces = result[keys.PRED_FORCE].detach().numpy().astype(float) + part.get_forces()
        if not np.isfinite(forces).all() or np.abs(forces).max() > LARGEST_FORCE:
            n_left_out += 1
            continue
        shift = float(composition(atoms) @ teacher.shift.detach().numpy())
        energy = float(result[keys.PRED_TOTAL_ENERGY].detach()) + shift
        # SevenNet gives xx yy zz xy yz zx with the other sign; ASE wants xx yy zz yz xz xy
        stress = -result[keys.PRED_STRESS].detach().numpy().reshape(-1)[[0, 1, 2, 4, 5, 3]]
        new = bare(atoms)
        new.info = {
            name: atoms.info[name] for name in ("config_type", "trajectory") if name in atoms.info
        }
        new.calc = SinglePointCalculator(
            new,
            energy=energy + part.get_potential_energy(),
            forces=forces - forces.mean(axis=0),
            stress=stress + part.get_stress(),
        )
        labelled.append(new)
    write(target, labelled, format="extxyz")
    print(f"{len(labelled)} structures labelled, {n_left_out} left out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (
        ("fit", ("train_path", "test_path", "output")),
        ("label", ("checkpoint", "source", "target")),
    ):
        command = commands.add_parser(name)
        for word in words:
            command.add_argument(word)
    fit_options = commands.choices["fit"]
    fit_options.add_argument("--start", help="checkpoint to go on from, in place of SevenNet-0's")
    fit_options.add_argument("--epochs", type=int, default=24)
    fit_options.add_argument("--rate", type=float, default=1e-3, help="of learning")
    options = vars(parser.parse_args())
    {"fit": fit, "label": label}[options.pop("command")](**options)


if __name__ == "__main__":
    main()
