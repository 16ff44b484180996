"""Whole runs on a few small structures."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import qnep.train.trainer as trainer
from qnep import QNEP, Model
from qnep.io import read_frames
from qnep.train.batch import BatchBuilder, estimate_memory
from qnep.train.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from qnep.train.dataset import load_frames
from qnep.train.forward import Forward
from qnep.train.frames import Frame, FrameError, FrameReader
from qnep.train.loss import LossWeights
from qnep.train.member import DivergedError
from qnep.train.parameters import ParameterLayout
from qnep.train.report import predict_frames
from qnep.train.settings import ModelSettings, Settings, SettingsError, TrainingSettings
from qnep.train.start import element_energies, initial_parameters, on_zero_of_data
from qnep.train.trainer import make_groups, settings_of_model, train
from qnep.train.work import LocalWork, ParallelWork, WorkPlan

SMALL = ModelSettings(
    ("O", "H"),
    charge_mode=2,
    cutoff=(4.0, 3.0),
    n_max=(3, 2),
    basis_size=(4, 4),
    l_max=(2, 1),
    neurons=5,
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def make_settings(
    data_file: Path, output: str = "out", model: ModelSettings = SMALL, **training
) -> Settings:
    options = {"epochs": 6, "batch_size": 2, "warm_up_steps": 3, "device": "cpu", **training}
    folder = data_file.parent
    return Settings(
        model,
        TrainingSettings(data=(str(data_file),), output=str(folder / output), **options),
        LossWeights(energy=1.0, force=1.0, virial=0.1),
    )


def run(settings: Settings, **options) -> Model:
    return train(settings, show_progress=False, **options).models[0]


def test_a_run_leaves_model_metrics_plots_and_card(data_file):
    settings = make_settings(data_file, epochs=40, learning_rate=2e-2, validation_fraction=0.2)
    result = train(settings, show_progress=False)
    folder, history = result.folders[0], result.histories[0]
    assert history[-1]["train_force"] < 0.5 * history[0]["train_force"]
    names = {
        "nep.txt",
        "checkpoint.npz",
        "metrics.csv",
        "loss.png",
        "parity.png",
        "model_card.md",
        "errors.json",
    }
    assert {path.name for path in folder.iterdir()} == names
    assert Model.read(str(folder / "nep.txt")).format() == result.models[0].format()
    errors = json.loads((folder / "errors.json").read_text())
    assert set(errors["training"]["by category"]) == {"kind 0", "kind 1"}
    assert "SHA-256" in (folder / "model_card.md").read_text()


@pytest.mark.parametrize(
    "repulsion",
    [{"zbl": 2.0}, {"zbl": 2.0, "zbl_typewise_factor": 0.7}, {"zbl": 2.0, "zbl_from_data": True}],
)
def test_reported_errors_are_those_of_the_engine_with_zbl(data_file, repulsion):
    """ZBL is a constant of the labels while training; the written model has it, and the errors agree."""
    settings = make_settings(data_file, model=dataclasses.replace(SMALL, **repulsion), epochs=2)
    model = run(settings)
    errors = json.loads((Path(settings.training.output) / "errors.json").read_text())
    from qnep.io import read_frames

    difference = []
    for atoms in read_frames(data_file):
        reference = atoms.get_forces()
        atoms.calc = QNEP(model, kspace="ewald")
        difference.append(atoms.get_forces() - reference)
    rms = 1000 * np.sqrt(np.mean(np.concatenate(difference) ** 2))
    assert errors["training"]["all"]["force_meV_per_A"] == pytest.approx(rms, rel=1e-9)


NEUTRAL = dataclasses.replace(SMALL, charge_mode=0)


@pytest.mark.parametrize("pbc", [False, (True, True, False), True])
def test_open_directions_have_no_images(make_atoms, tmp_path, caplog, pbc):
    """In boxes narrower than the cutoff: the errors of the run are those of the engine on the same structures."""
    structures = []
    for seed in range(4):
        atoms = make_atoms(seed)
        atoms.pbc = pbc
        atoms.calc = LennardJones(sigma=1.0, epsilon=0.02, rc=3.0, smooth=True)
        atoms.get_stress()
        structures.append(atoms)
    path = tmp_path / "train.xyz"
    write(path, structures, format="extxyz")
    model = dataclasses.replace(NEUTRAL, zbl=1.5)
    settings = make_settings(path, model=model, validation=(str(path),), epochs=2)
    result = train(settings, show_progress=False)
    errors = json.loads((tmp_path / "out" / "errors.json").read_text())["training"]["all"]
    forces, energies = [], []
    for atoms in read_frames(path):
        labels = dict(atoms.calc.results)
        atoms.calc = QNEP(result.models[0])
        forces.append(atoms.get_forces() - labels["forces"])
        energies.append((atoms.get_potential_energy() - labels["energy"]) / len(atoms))
    rms = 1000 * np.sqrt(np.mean(np.square(forces)))
    assert errors["force_meV_per_A"] == pytest.approx(rms, rel=1e-9)
    assert errors["energy_meV_per_atom"] == pytest.approx(
        1000 * np.sqrt(np.mean(np.square(energies))), rel=1e-9
    )
    assert ("8 structures, the first" in caplog.text) == (pbc is not True)


def test_open_directions_are_refused_with_charges(data_file):
    frames = read_frames(data_file)
    frames[3].pbc = (True, True, False)
    write(data_file, frames, format="extxyz")
    with pytest.raises(FrameError, match=r"train.xyz, frame 3: .* got pbc=\"T T F\""):
        run(make_settings(data_file))


def shifted(data_file: Path, name: str, shift: float) -> Path:
    """Write the structures with another zero of energy, in eV for each atom; return the file."""
    frames = read_frames(data_file)
    for frame in frames:
        frame.calc.results["energy"] += shift * len(frame)
    path = data_file.with_name(name)
    write(path, frames, format="extxyz")
    return path


@pytest.mark.parametrize("optimizer", ["adam", "snes"])
def test_energies_far_from_zero_are_fitted_as_well(data_file, optimizer):
    """All-electron codes: 15 keV an atom. Single precision resolves a meV of it, so nothing may go through that."""
    options = {"model": NEUTRAL, "epochs": 20, "optimizer": optimizer, "population": 4}
    far = shifted(data_file, "far.xyz", -15000.0)
    errors = []
    for path in (data_file, far):
        history = train(make_settings(path, path.stem, **options), show_progress=False).histories[0]
        table = json.loads((path.parent / path.stem / "errors.json").read_text())
        assert table["training"]["all"]["energy_meV_per_atom"] > 0.1
        errors.append(
            [table["training"]["all"]["energy_meV_per_atom"], history[-1]["train_energy"]]
        )
    # the model file has 17 digits, so 1e-12 of the energies of 12 atoms is what is left
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-4)


def test_validation_errors_are_those_of_the_written_file(data_file):
    """Trained in single precision; the table of the run and the engine on nep.txt agree far beyond 1e-6."""
    settings = make_settings(data_file, validation=(str(data_file),), epochs=3)
    result = train(settings, show_progress=False)
    from qnep.io import read_frames

    model = Model.read(str(Path(settings.training.output) / "nep.txt"))
    errors = []
    for atoms in read_frames(data_file):
        reference = atoms.get_forces()
        atoms.calc = QNEP(model, kspace="ewald")
        errors.append(atoms.get_forces() - reference)
    rms = np.sqrt(np.mean(np.concatenate(errors) ** 2))
    best = min(row["validation_force"] for row in result.histories[0])
    assert best == pytest.approx(rms, rel=1e-7)


def test_errors_of_epochs_have_no_weights(data_file):
    """With strong weights the table, in eV/Å and eV/atom, still agrees with errors.json of the best model."""
    settings = make_settings(data_file, validation=(str(data_file),), epochs=3)
    weights = LossWeights(force_delta=0.01, huber=0.5, shear=0.1, elements=(0.1, 2.0))
    history = train(dataclasses.replace(settings, loss=weights), show_progress=False).histories[0]
    best = min(history, key=lambda row: row["validation_loss"])
    table = json.loads((data_file.parent / "out" / "errors.json").read_text())["validation"]["all"]
    for term, key in (("force", "force_meV_per_A"), ("energy", "energy_meV_per_atom")):
        assert 1000 * best[f"validation_{term}"] == pytest.approx(table[key], rel=1e-7)
    assert 1000 * best["validation_virial"] == pytest.approx(table["virial_meV_per_atom"], rel=1e-6)
    assert 0.5 < best["train_force"] / best["validation_force"] < 2


def test_tables_beyond_the_memory_allowed_are_streamed(data_file, caplog):
    """memory_GB of a hundredth of what the tables take: the same model to the last bit, and the disk is cleaned."""
    caplog.set_level("INFO", logger="qnep.train.work")
    whole = run(make_settings(data_file, "whole"))
    assert "kept in memory" in caplog.text
    caplog.clear()
    folders = set(Path(tempfile.gettempdir()).glob("qnep-train-*"))
    streamed = run(make_settings(data_file, "streamed", memory_GB=1e-5, epochs=6))
    assert "kept on disk, read batch by batch" in caplog.text
    assert streamed.format() == whole.format()
    assert set(Path(tempfile.gettempdir()).glob("qnep-train-*")) <= folders


@pytest.mark.parametrize("processes", [1, 2])
def test_the_validation_set_shares_the_memory_allowed(data_file, caplog, processes):
    """Room for the training set and half of the validation set: the second goes to the disk."""
    caplog.set_level("INFO", logger="qnep.train.work")
    options = {"validation": (str(data_file),), "epochs": 1}
    frames = load_frames([data_file], SMALL.elements)
    groups = [[frames[i] for i in group] for group in make_groups(6, 2, 0)]
    model = SMALL.make_model()
    sizes = [estimate_memory(model, groups, precision) for precision in ("single", "double")]
    allowed = (sizes[0] + 0.5 * sizes[1]) / 1e9
    assert allowed > sizes[1] / 1e9
    run(make_settings(data_file, memory_GB=allowed, processes=processes, **options))
    words = [record.getMessage() for record in caplog.records]
    kept = [text.split("kept ")[1] for text in words if "kept " in text]
    assert kept == ["in memory", "on disk, read batch by batch"]


def test_every_epoch_has_its_own_order_of_batches(data_file, monkeypatch):
    orders: list[list[int]] = []
    gradient = LocalWork.gradient

    def noting(self, vector, number, scales, counts):
        if number not in (orders[-1] if orders else ()) and orders and len(orders[-1]) < 3:
            orders[-1].append(number)
        else:
            orders.append([number])
        return gradient(self, vector, number, scales, counts)

    monkeypatch.setattr(LocalWork, "gradient", noting)
    run(make_settings(data_file, epochs=8))
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert len(orders) == 8
    assert len({tuple(order) for order in orders}) > 2


def test_killed_and_resumed_is_bit_for_bit_the_same(data_file):
    """A real kill after some epochs; the table of the resumed run equals that of a run without a break."""
    folder = data_file.parent
    config = folder / "run.toml"
    config.write_text(
        "[model]\nelements = ['O', 'H']\ncharge_mode = 2\ncutoff = [4.0, 3.0]\nn_max = [3, 2]\n"
        "basis_size = [4, 4]\nl_max = [2, 1]\nneurons = 5\n"
        "[training]\ndata = 'train.xyz'\nepochs = 12\nbatch_size = 2\noutput = 'killed'\ndevice = 'cpu'\n"
    )
    command = [sys.executable, "-m", "qnep.cli", "train", str(config), "--quiet"]
    metrics = folder / "killed" / "metrics.csv"
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 4:
        assert process.poll() is None, "training ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    from qnep.train.settings import read_settings

    settings = read_settings(config)
    resumed = run(settings, resume=True)
    whole = run(
        dataclasses.replace(
            settings, training=dataclasses.replace(settings.training, output=str(folder / "whole"))
        )
    )
    assert resumed.format() == whole.format()


def test_checkpoint_of_other_data_is_refused(data_file):
    run(make_settings(data_file))
    with pytest.raises(CheckpointError, match="belongs to other data or settings"):
        run(make_settings(data_file, learning_rate=0.5), resume=True)


def with_training(settings: Settings, **changes) -> Settings:
    return dataclasses.replace(settings, training=dataclasses.replace(settings.training, **changes))


def test_checkpoint_counts_what_is_in_files_and_not_their_paths(data_file, monkeypatch):
    """The same run from another folder, with the data under another name, goes on; a changed label ends that."""
    settings = make_settings(data_file, validation=(str(data_file),), epochs=2)
    run(settings)
    copy = data_file.with_name("copy.xyz")
    copy.write_bytes(data_file.read_bytes())
    monkeypatch.chdir(data_file.parent)
    moved = with_training(
        settings, data=("copy.xyz",), validation=("copy.xyz",), output="out", epochs=3
    )
    assert len(train(moved, resume=True, show_progress=False).histories[0]) == 3
    frames = read_frames(copy)
    frames[0].calc.results["energy"] += 0.1
    write(copy, frames, format="extxyz")
    original = with_training(moved, data=("train.xyz",))
    with pytest.raises(CheckpointError, match="belongs to other data or settings"):
        run(original, resume=True)


def test_checkpoint_of_another_model_to_start_from_is_refused(data_file):
    first = data_file.parent / "first" / "nep.txt"
    run(make_settings(data_file, "first", epochs=1))
    settings = make_settings(data_file, epochs=1, fine_tune=str(first))
    run(settings)
    run(make_settings(data_file, "first", epochs=2))
    with pytest.raises(CheckpointError, match="belongs to other data or settings"):
        run(settings, resume=True)


def test_checkpoint_of_an_earlier_version_is_named(data_file):
    settings = make_settings(data_file, epochs=1)
    run(settings)
    path = data_file.parent / "out" / "checkpoint.npz"
    arrays, meta = load_checkpoint(path)
    del meta["format"]
    save_checkpoint(path, arrays, meta)
    with pytest.raises(CheckpointError, match=r"another version of qnep \(format 1, wanted 3\)"):
        run(settings, resume=True)


def test_no_epochs_leave_the_model_of_the_start_to_go_on_from(data_file):
    settings = make_settings(data_file, epochs=0)
    started = run(settings)
    file = data_file.parent / "out" / "nep.txt"
    assert Model.read(str(file)).format() == started.format()
    resumed = run(with_training(settings, epochs=2), resume=True)
    assert resumed.format() == run(make_settings(data_file, "whole", epochs=2)).format()


def test_a_gpu_that_is_not_there_is_named(data_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="device cuda: this PyTorch finds no GPU"):
        run(make_settings(data_file, device="cuda"))


@pytest.mark.parametrize("device, n_expected", [("auto", 1), ("cuda", 1), ("cpu", 2)])
def test_a_gpu_is_fed_by_one_process(data_file, monkeypatch, caplog, device, n_expected):
    """Workers share their gradients in the memory of the CPU; only what would be started is looked at."""

    class Started(Exception):
        pass

    def start(plan, n_processes):
        raise Started(plan.device, n_processes)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(trainer, "make_work", start)
    with pytest.raises(Started) as started:
        run(make_settings(data_file, device=device, processes=2))
    assert started.value.args == ("cpu" if device == "cpu" else "cuda", n_expected)
    assert ("processes = 2 counts on the CPU alone" in caplog.text) == (n_expected == 1)


def test_categories_without_energies_have_no_energy_error(data_file):
    """errors.json is JSON, which knows no NaN; the card and the log show what there is."""
    frames = read_frames(data_file)
    for frame in frames[::2]:
        frame.info["energy_weight"] = 0
    write(data_file, frames, format="extxyz")
    run(make_settings(data_file, epochs=1))

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (data_file.parent / "out" / "errors.json").read_text()
    tables = json.loads(text, parse_constant=refuse)["training"]["by category"]
    assert "energy_meV_per_atom" not in tables["kind 0"]
    assert tables["kind 0"]["force_meV_per_A"] > 0 and tables["kind 1"]["energy_meV_per_atom"] > 0


def test_no_energies_at_all(data_file):
    frames = read_frames(data_file)
    for frame in frames:
        frame.info["energy_weight"] = 0
    write(data_file, frames, format="extxyz")
    run(make_settings(data_file, epochs=1))
    card = (data_file.parent / "out" / "model_card.md").read_text()
    assert "| training | 6 | - | " in card


def test_more_epochs_may_be_added(data_file):
    settings = make_settings(data_file, epochs=2)
    run(settings)
    longer = dataclasses.replace(
        settings, training=dataclasses.replace(settings.training, epochs=4, polish_rounds=1)
    )
    history = train(longer, resume=True, show_progress=False).histories[0]
    assert [row["phase"] for row in history] == ["adam"] * 4 + ["polish"]
    assert history[-1]["train_force"] <= history[-2]["train_force"]


def test_divergence_is_named_and_keeps_the_last_model(data_file):
    good = run(make_settings(data_file, epochs=1))
    wild = make_settings(data_file, learning_rate=1e30, gradient_clip=0.0)
    with pytest.raises(DivergedError, match="lower learning_rate"):
        run(wild)
    kept = Model.read(str(Path(wild.training.output) / "nep.txt"))
    assert kept.format() == good.format()


def test_early_stopping_keeps_the_best(data_file):
    settings = make_settings(
        data_file, epochs=60, validation_fraction=0.2, patience=3, learning_rate=0.3
    )
    result = train(settings, show_progress=False)
    assert len(result.histories[0]) < 60


def test_fine_tuning_starts_from_the_model(data_file):
    first = make_settings(data_file, "first")
    model = run(first)
    assert settings_of_model(model) == dataclasses.replace(SMALL, l_max=(2, 1, 0, 0, 0, 0, 0))
    again = make_settings(
        data_file, "again", epochs=0, fine_tune=str(data_file.parent / "first" / "nep.txt")
    )
    np.testing.assert_allclose(run(again).parameters, model.parameters, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift, processes", [(-450.0, 1), (-450.0, 2), (0.0, 1)])
def test_fine_tuning_finds_another_zero_of_energy(data_file, caplog, shift, processes):
    """The same structures, all energies moved: the model begins as good as it was. On its own zero nothing changes."""
    run(make_settings(data_file, "first", model=NEUTRAL, epochs=10))
    first = data_file.parent / "first"
    before = json.loads((first / "errors.json").read_text())["training"]["all"]
    far = shifted(data_file, "far.xyz", shift)
    options = {"fine_tune": str(first / "nep.txt"), "processes": processes, "epochs": 0}
    model = run(make_settings(far, "tuned", model=NEUTRAL, **options))
    after = json.loads((data_file.parent / "tuned" / "errors.json").read_text())["training"]["all"]
    if shift:
        assert "half of the energies of the data are more than 450 eV/atom off" in caplog.text
        assert after["energy_meV_per_atom"] <= before["energy_meV_per_atom"] + 1e-6
        assert after["force_meV_per_A"] == pytest.approx(before["force_meV_per_A"], rel=1e-9)
    else:
        assert model.parameters == pytest.approx(Model.read(str(first / "nep.txt")).parameters)


def test_zeros_of_energy_of_elements(make_frames, caplog):
    """Two compositions: with a place for energies of elements these are exact, else only a common shift is possible."""
    frames = make_frames(3) + make_frames(3, n_atoms=6, symbols="OH")
    model = SMALL.make_model()
    vector, _ = initial_parameters(model, frames, 0, True)
    layout = ParameterLayout(model)
    energies = np.array([-2000.0, -13.6])
    errors = -np.array([energies[frame.types].sum() for frame in frames])
    moved = on_zero_of_data(layout, vector, frames, errors) - vector
    places = [layout.network_slices(t)[2].start for t in range(2)]
    np.testing.assert_allclose(moved[places], energies, rtol=1e-9)
    assert np.count_nonzero(moved) == 2
    vector[layout.network_slices(0)[1]] = 0.1  # no neuron is always on
    with pytest.raises(SettingsError, match=r"off the labels: O -2000, H -13.6 eV"):
        on_zero_of_data(layout, vector, frames, errors)
    common = on_zero_of_data(layout, vector, frames, np.array([7.0 * f.n_atoms for f in frames]))
    assert common[model.bias_offset()] - vector[model.bias_offset()] == pytest.approx(7.0)
    caplog.clear()
    contradictory = np.array([900.0, -900.0] * 3)
    assert on_zero_of_data(layout, vector, frames, contradictory) is vector
    assert "have data and replay one zero of energy?" in caplog.text
    assert on_zero_of_data(layout, vector, frames, 0.4 * errors / 1000) is vector


def test_replay_adds_old_structures(data_file):
    settings = make_settings(data_file, replay=(str(data_file),), n_replay=2, epochs=1)
    run(settings)
    card = (Path(settings.training.output) / "model_card.md").read_text()
    assert "2 older structures replayed" in card


def test_committee_members_differ_and_share_the_data(data_file):
    result = train(make_settings(data_file, members=2, bootstrap=True), show_progress=False)
    assert [folder.name for folder in result.folders] == ["member0", "member1"]
    assert np.abs(result.models[0].parameters - result.models[1].parameters).max() > 0.1


def test_evolution_strategy_runs(data_file):
    settings = make_settings(data_file, optimizer="snes", population=10, batch_size=6, epochs=30)
    history = train(settings, show_progress=False).histories[0]
    assert history[-1]["train_force"] < history[0]["train_force"]


def make_plan(make_frames, **options) -> tuple[WorkPlan, torch.Tensor]:
    frames = make_frames(5)
    model = SMALL.make_model()
    vector, scalers = initial_parameters(model, frames, 0, True)
    parameters = np.zeros(model.n_parameters)
    parameters[model.scaler_offset :] = scalers
    model.parameters = parameters
    settings = {"precision": "double", "device": "cpu", "budget": 1e9, **options}
    plan = WorkPlan(model.format(), frames, make_groups(5, 3, 0), LossWeights(), **settings)
    return plan, torch.from_numpy(vector)


SCALES = {"energy": 0.1, "force": 0.5, "virial": 0.2, "charge": 0.1}


def test_processes_share_the_gradient(make_frames):
    plan, vector = make_plan(make_frames)
    local, parallel = LocalWork(plan), ParallelWork(plan, 2)
    try:
        factors = np.arange(1.0, 6.0)
        for work in (local, parallel):
            work.set_factors(factors)
        for number in range(2):
            counts = local.counts(number)
            assert counts == parallel.counts(number)
            errors, gradient = local.gradient(vector, number, SCALES, counts)
            other_errors, other = parallel.gradient(vector, number, SCALES, counts)
            torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-12)
            assert errors.root_mean_squares() == pytest.approx(other_errors.root_mean_squares())
        assert local.largest_neighbors() == parallel.largest_neighbors()
    finally:
        parallel.close()


def test_sentences_of_processes_are_those_of_one(make_frames):
    """Two atoms at one place in a structure of the second process: wrong input there as here."""
    plan, _ = make_plan(make_frames)
    broken = plan.groups[0][1]
    frames = list(plan.frames)
    positions = frames[broken].positions.copy()
    positions[1] = positions[0]
    frames[broken] = dataclasses.replace(frames[broken], positions=positions)
    with pytest.raises(ValueError, match=f"^frame {broken}: two atoms at the same place"):
        ParallelWork(dataclasses.replace(plan, frames=frames), 2)


def test_streamed_tables_give_the_same_gradient(make_frames):
    plan, vector = make_plan(make_frames)
    small, _ = make_plan(make_frames, budget=10.0)
    works = [LocalWork(one) for one in (plan, small)]
    results = [work.gradient(vector, 1, SCALES, work.counts(1))[1] for work in works]
    for work in works:
        work.close()
    assert torch.equal(results[0], results[1])


def test_loss_terms_by_hand(make_frames):
    """One structure, one term at a time, against sums written out."""
    plan, vector = make_plan(make_frames)
    work = LocalWork(plan)
    batch = work.store[0]
    prediction = work.predict(vector, batch)
    found = work.loss.sums(prediction, batch).root_mean_squares()
    n_atoms = 12
    energy = ((prediction.energies - batch.labels.energies) / n_atoms).square().mean().sqrt()
    assert found["energy"] == pytest.approx(float(energy))
    assert found["force"] == pytest.approx(
        float((prediction.forces - batch.labels.forces).square().mean().sqrt())
    )
    charge = torch.stack(
        [prediction.raw_charges[batch.frame_of_atom == f].sum() for f in range(batch.n_frames)]
    )
    assert found["charge"] == pytest.approx(float((charge / n_atoms).square().mean().sqrt()))


def test_element_energies_by_hand(make_frames):
    """Structures with energies 2 per O and -1 per H exactly."""
    frames = (
        make_frames(2)
        + make_frames(2, n_atoms=6, symbols="O")
        + make_frames(2, n_atoms=6, symbols="H")
    )
    exact = np.array([2.0, -1.0])
    frames = [
        dataclasses.replace(frame, energy=float(exact[frame.types].sum())) for frame in frames
    ]
    np.testing.assert_allclose(element_energies(frames, 2), exact, rtol=1e-12)


def of_composition(frame, types: list[int], energies: np.ndarray):
    """Return a frame of other atoms whose energy is the sum of those of its elements, eV."""
    return dataclasses.replace(
        frame, types=np.array(types), energy=float(energies[np.array(types)].sum())
    )


def test_energies_of_rare_elements_are_exact(make_frames):
    """1000 structures of H and O; one of a hundred has one ion of a third element among 150 atoms."""
    (frame,) = make_frames(1)
    exact = np.array([-13.6, -430.0, -1300.0])
    random = np.random.default_rng(1)
    frames = []
    for number in range(1000):
        n_oxygen = int(random.integers(30, 70))
        types = [1] * n_oxygen + [0] * (150 - n_oxygen)
        frames.append(of_composition(frame, types[:-1] + [2] * (number % 100 == 0), exact))
    np.testing.assert_allclose(element_energies(frames, 3), exact, rtol=1e-9)


def test_elements_in_one_ratio_share_their_energy(make_frames):
    """Na, Cl and an element that does not occur; the data know only the sum of the first two."""
    (frame,) = make_frames(1)
    exact = np.array([-1300.0, -460.0, -100.0])
    frames = [of_composition(frame, [0, 1] * n_pairs, exact) for n_pairs in (4, 32, 108)]
    np.testing.assert_allclose(element_energies(frames, 3), [-880.0, -880.0, 0.0], rtol=1e-12)


def test_weight_decay_leaves_the_energies_of_elements_alone(make_atoms, tmp_path):
    """Lennard-Jones energies on top of -100 and -150 eV for each atom, decay as strong as it is ever advised."""
    offsets = {"O": -100.0, "H": -150.0}
    structures = []
    for seed in range(12):
        atoms = make_atoms(seed, symbols=("OHH", "OOH", "OH")[seed % 3])
        atoms.calc = LennardJones(sigma=1.0, epsilon=0.02, rc=3.0, smooth=True)
        shift = sum(offsets[symbol] for symbol in atoms.get_chemical_symbols())
        forces, energy = atoms.get_forces(), atoms.get_potential_energy() + shift
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        structures.append(atoms)
    path = tmp_path / "train.xyz"
    write(path, structures, format="extxyz")
    history = train(
        make_settings(path, model=NEUTRAL, epochs=60, learning_rate=1e-2, weight_decay=0.3),
        show_progress=False,
    ).histories[0]
    assert history[-1]["train_energy"] < 3e-3  # eV/atom; decay of the offsets left 48


def test_weight_decay_leaves_biases_alone():
    """Energy and charge of the always-on neuron are biases; so they are in a model that is fine-tuned."""
    model = SMALL.make_model()
    layout = ParameterLayout(model)
    vector = np.ones(layout.n_trained)
    for t in range(2):
        w0, b0, w1 = layout.network_slices(t)
        vector[w0.start : w0.start + model.n_descriptors] = 0.0
        vector[b0.start] = -20.0
    decays = layout.decays(vector)
    for t in range(2):
        w0, b0, w1 = layout.network_slices(t)
        assert decays[w0].all() and not decays[b0].any()
        np.testing.assert_array_equal(decays[w1].reshape(2, -1), [[0, 1, 1, 1, 1]] * 2)
    vector[layout.network_slices(0)[1].start] = -1.0  # not saturated: its weights will move
    assert layout.decays(vector)[layout.network_slices(0)[2]].all()


@pytest.fixture
def twenty_structures(tmp_path, make_atoms) -> Path:
    """A file of twenty random structures."""
    path = tmp_path / "train.xyz"
    write(path, [make_atoms(seed) for seed in range(20)], format="extxyz")
    return path


@pytest.mark.parametrize("optimizer, epochs", [("adam", 3), ("snes", 20)])
def test_a_bootstrap_sample_without_the_first_structure_is_learned(
    twenty_structures, optimizer, epochs
):
    """A first gradient of zero set the limit of all later ones to zero; no step is wasted on what was not drawn."""
    settings = make_settings(
        twenty_structures,
        bootstrap=True,
        batch_size=1,
        seed=3,
        epochs=epochs,
        optimizer=optimizer,
        population=4,
    )
    factors = trainer._bootstrap_factors(settings, 20, seed=3)
    first_batch = np.random.default_rng([3, 0]).permutation(20)[0]
    assert factors[make_groups(20, 1, 3)[first_batch]] == 0
    result = train(settings, show_progress=False)
    history = result.histories[0]
    if optimizer == "adam":
        assert history[-1]["train_energy"] < history[0]["train_energy"]
        arrays, _ = load_checkpoint(result.folders[0] / "checkpoint.npz")
        assert arrays["n_steps"] == epochs * np.count_nonzero(factors)
    assert all("train_force" in row for row in history)  # each generation saw a structure


def test_always_on_neuron_holds_the_element_energy(make_frames):
    """With all other output weights zero, the start predicts the fitted energies of the elements."""
    frames = make_frames(4)
    model = SMALL.make_model()
    vector, scalers = initial_parameters(model, frames, 0, True)
    plan, _ = make_plan(make_frames)
    layout = LocalWork(plan).layout
    for t in range(2):
        w1 = vector[layout.network_slices(t)[2]].reshape(2, -1)
        w1[:, 1:] = 0.0
    model.parameters = layout.to_file(vector, scalers)
    energies = element_energies(frames, 2)
    for result in predict_frames(model, frames):
        expected = energies[result.frame.types].mean()
        assert result.energies[0] == pytest.approx(expected, abs=1e-8)


def test_networks_of_rare_elements_begin_alive(monkeypatch):
    """One crystal of thirty has the third element, and the sample is of two: its neurons may not be saturated."""
    monkeypatch.setattr("qnep.train.start.N_SAMPLE", 2)
    random = np.random.default_rng(5)
    sites = 2.5 * np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), axis=-1).reshape(-1, 3)

    def crystal(types: list[int]) -> Frame:
        positions = sites + 0.1 * random.normal(size=(8, 3))
        return Frame("crystal", np.array(types), positions, 5 * np.eye(3), -20.0, np.zeros((8, 3)))

    rare = crystal([2, 1, 0, 1, 0, 1, 0, 1])
    frames = [crystal([0, 1] * 4) for _ in range(29)] + [rare]
    model = dataclasses.replace(SMALL, elements=("O", "H", "P"), neurons=20).make_model()
    layout = ParameterLayout(model)
    batch = BatchBuilder(model, "double").build([rare], [0])
    for seed in range(4):
        vector, scalers = map(torch.from_numpy, initial_parameters(model, frames, seed, True))
        descriptors = Forward(layout, scalers).descriptors(vector, batch)[batch.type_ranges[2][0] :]
        part = layout.split(vector, scalers)[2]
        slopes = 1 - torch.tanh(descriptors @ part.w0.T - part.b0) ** 2
        assert slopes[:, 1:].mean() > 0.5  # below 0.1 if the structure is not in the sample


def test_initial_charges_are_those_of_the_start(make_frames):
    frames = make_frames(2)
    model = SMALL.make_model()
    vector, _ = initial_parameters(model, frames, 0, True, charges=(-0.6, 0.3))
    plan, _ = make_plan(make_frames)
    layout = LocalWork(plan).layout
    first = [vector[layout.network_slices(t)[2]].reshape(2, -1)[1, 0] for t in range(2)]
    assert first == [-0.6, 0.3]


def test_atoms_at_one_place_are_refused(make_frames):
    frame = make_frames(1)[0]
    positions = frame.positions.copy()
    positions[1] = positions[0]
    with pytest.raises(ValueError, match="frame 0: two atoms at the same place"):
        BatchBuilder(SMALL.make_model()).build(
            [dataclasses.replace(frame, positions=positions)], [0]
        )


def test_dipole_of_a_molecule_across_the_boundary(make_frames):
    """s times the sum of charges times positions, with the molecule made whole."""
    frame = make_frames(1, n_atoms=3)[0]
    vectors = np.array([[0.0, 0, 0], [0.9, 0.1, 0], [-0.3, 0.9, 0]])
    whole = dataclasses.replace(frame, positions=vectors + 0.1, dipole=np.zeros(3))
    wrapped_positions = Atoms("OHH", vectors + 0.1, cell=frame.cell, pbc=True).get_positions(
        wrap=True
    )
    wrapped = dataclasses.replace(whole, positions=wrapped_positions)
    plan, vector = make_plan(make_frames)
    work = LocalWork(plan)
    builder = BatchBuilder(work.model, "double")
    dipoles = [work.predict(vector, builder.build([f], [0])).dipoles for f in (whole, wrapped)]
    torch.testing.assert_close(dipoles[0], dipoles[1], rtol=1e-9, atol=1e-12)
    assert float(dipoles[0].abs().max()) > 1e-3


def test_dipole_of_two_molecules_in_a_wrapped_cell(make_frames):
    """The boundary cuts the second one, half a cell from the first, so that its H have nearest images on both sides."""
    whole = Atoms(cell=10.0 * np.eye(3), pbc=True)
    for corner in ([1.0, 5.1, 1.0], [6.0, 9.9, 1.3]):
        water = molecule("H2O")
        water.positions += np.array(corner) - water.positions[0]
        whole += water
    wrapped = whole.copy()
    wrapped.wrap()
    assert np.ptp(wrapped.positions[3:, 1]) > 9
    whole.info["dipole"] = wrapped.info["dipole"] = np.zeros(3)
    plan, vector = make_plan(make_frames)
    work = LocalWork(plan)
    builder = BatchBuilder(work.model, "double")
    reader = FrameReader(("O", "H"))
    for atoms in (whole, wrapped):
        batch = builder.build([reader.read(atoms, "water")], [0])
        prediction = work.predict(vector, batch)
        charges = prediction.charges.numpy()
        factor = abs(float(vector[work.model.sqrt_epsilon_offset]))
        expected = factor * charges @ whole.positions[batch.original]
        np.testing.assert_allclose(prediction.dipoles[0], expected, rtol=1e-9, atol=1e-12)
        assert np.abs(expected).max() > 1e-3
