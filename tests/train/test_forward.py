"""The trainer's energies, forces, virials and charges against the engine, another code and differences."""

import numpy as np
import pytest
import torch
from ase import Atoms

from qnep import QNEP, Model, random_model
from qnep.train.batch import BatchBuilder
from qnep.train.forward import Forward
from qnep.train.pair_sums import CompiledPairs, TensorPairs
from qnep.train.parameters import ParameterLayout

CASES = {
    "plain": {"l_max": (4, 1, 0)},
    "all invariants": {"l_max": (4, 1, 1, 1, 1, 1, 1)},
    "no invariants, l = 1": {"l_max": (1, 0, 0)},
    "l = 8": {"l_max": (8, 0, 1)},
    "mode 1": {"charge_mode": 1},
    "mode 2": {"charge_mode": 2, "l_max": (3, 1, 1, 1, 1, 1, 0)},
    "cutoffs of types": {"radial_cutoff": (5.0, 4.0), "angular_cutoff": (4.0, 3.0)},
    "different bases": {"n_max": (3, 2), "basis_size": (5, 7), "charge_mode": 2},
}


def make_model(name: str) -> Model:
    options = {
        "radial_cutoff": 5.0,
        "angular_cutoff": 3.5,
        "n_neurons": 7,
        "seed": 5,
        **CASES[name],
    }
    return random_model("O H", **options)


def make_forward(model: Model, precision: str) -> tuple[Forward, torch.Tensor, BatchBuilder]:
    builder = BatchBuilder(model, precision)
    layout = ParameterLayout(model)
    parameters = np.array(model.parameters)
    scalers = torch.from_numpy(parameters[model.scaler_offset : model.zbl_offset]).to(builder.dtype)
    return (
        Forward(layout, scalers),
        torch.from_numpy(layout.to_vector(parameters)).to(builder.dtype),
        builder,
    )


def written(model: Model, vector: torch.Tensor, scalers: torch.Tensor) -> Model:
    """Return the model of parameters in training, as its file has them."""
    layout = ParameterLayout(model)
    model.parameters = layout.to_file(vector.double().numpy(), scalers.double().numpy())
    return Model.parse(model.format(), "nep.txt")


def test_sqrt_epsilon_is_positive_in_training_and_in_the_file(make_frames):
    """A file may hold a negative one: the same forces and Born charges come from charges of the other sign."""
    model = make_model("mode 2")
    frame = make_frames(1)[0]
    atoms = Atoms(
        [model.elements[t] for t in frame.types], frame.positions, cell=frame.cell, pbc=True
    )
    parameters = np.array(model.parameters)
    parameters[model.sqrt_epsilon_offset] *= -1.0
    model.parameters = parameters
    results = []
    forward, vector, builder = make_forward(model, "double")
    for one in (model, written(Model.parse(model.format(), "nep.txt"), vector, forward.scalers)):
        calculator = QNEP(one, kspace="ewald")
        atoms.calc = calculator
        results.append(
            (atoms.get_forces(), calculator.get_born_effective_charges(atoms), atoms.get_charges())
        )
    (forces, born, charges), (new_forces, new_born, new_charges) = results
    np.testing.assert_allclose(new_forces, forces, atol=1e-10)
    np.testing.assert_allclose(new_born, born, atol=1e-10)
    np.testing.assert_allclose(new_charges, -charges, atol=1e-10)
    assert np.abs(charges).max() > 1e-3
    with torch.no_grad():
        vector[model.sqrt_epsilon_offset] *= -1.0
    batch = builder.build([frame], [0])
    found = forward(vector, batch, with_born_charges=True).born_charges
    found = torch.empty_like(found).index_copy(0, batch.original, found)
    close(found, new_born.reshape(-1, 9), 1e-9)


@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_engine(name, precision, make_frames):
    """The file that is written, by the engine, relative to the largest value of the set.

    Single precision: tables and pairs have a rounding of 6e-8; dq/dr is summed over more of them than the forces.
    """
    model = make_model(name)
    frames = make_frames(3)
    forward, vector, builder = make_forward(model, precision)
    model = written(model, vector, forward.scalers)
    batch = builder.build(frames, [0, 1, 2])
    prediction = forward(vector, batch, with_born_charges=model.charge_mode > 0)
    engine: dict[str, list[np.ndarray]] = {}
    for frame in frames:
        symbols = [model.elements[t] for t in frame.types]
        atoms = Atoms(symbols, frame.positions, cell=frame.cell, pbc=True)
        atoms.calc = QNEP(model, kspace="ewald")
        results = {
            "energies": [atoms.get_potential_energy()],
            "forces": atoms.get_forces(),
            "virials": -atoms.get_stress(voigt=False).reshape(1, 9) * atoms.get_volume(),
        }
        if model.charge_mode:
            results["charges"] = atoms.get_charges()
            born_charges = atoms.calc.get_born_effective_charges(atoms)
            results["born_charges"] = born_charges.reshape(-1, 9)
        for quantity, values in results.items():
            engine.setdefault(quantity, []).append(np.asarray(values))
    for quantity, values in engine.items():
        found = getattr(prediction, quantity)
        if quantity in ("forces", "charges", "born_charges"):
            found = torch.empty_like(found).index_copy(0, batch.original, found)
        single = 2e-6 if quantity == "born_charges" else 1e-6
        close(found, np.concatenate(values), 1e-9 if precision == "double" else single)


def close(found, wanted, relative):
    wanted = np.asarray(wanted)
    np.testing.assert_allclose(
        np.asarray(found), wanted, rtol=0, atol=relative * np.abs(wanted).max()
    )


@pytest.mark.parametrize("name", ["all invariants", "mode 1", "mode 2"])
def test_gradients_of_parameters(name, make_frames):
    """Every kind of output in one number, differentiated along random directions of the parameters."""
    model = make_model(name)
    forward, vector, builder = make_forward(model, "double")
    batch = builder.build(make_frames(2), [0, 1])
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2,), (batch.n_atoms, 3), (2, 9), (batch.n_atoms, 9))
    ]

    def mixture(values: torch.Tensor) -> torch.Tensor:
        prediction = forward(values, batch, with_born_charges=model.charge_mode > 0)
        outputs = [
            prediction.energies,
            prediction.forces,
            prediction.virials,
            prediction.born_charges,
        ]
        return sum((w * output).sum() for w, output in zip(weights, outputs) if output is not None)

    variable = vector.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(mixture(variable), variable)
    for _ in range(3):
        direction = torch.randn(vector.shape, generator=generator, dtype=torch.float64)
        step = 1e-5
        near, far = (
            mixture(vector + h * direction) - mixture(vector - h * direction)
            for h in (step, 2 * step)
        )
        # five points: the error h^4/30 of the fifth derivative is lost in rounding, 1e-16 * 1e5 / h
        difference = (8 * near - far) / (12 * step)
        assert float(gradient @ direction) == pytest.approx(float(difference), rel=1e-6)


def test_compiled_and_tensor_operators_agree(make_frames):
    model = make_model("mode 2")
    forward, vector, builder = make_forward(model, "double")
    batch = builder.build(make_frames(3), [0, 1, 2])
    results = []
    for pairs in (CompiledPairs(batch), TensorPairs(batch)):
        batch.pairs = pairs
        variable = vector.clone().requires_grad_(True)
        prediction = forward(variable, batch, with_born_charges=True)
        total = (
            (prediction.forces**2).sum()
            + (prediction.virials**2).sum()
            + (prediction.born_charges**2).sum()
        )
        (gradient,) = torch.autograd.grad(total, variable)
        results.append((prediction.forces.detach(), prediction.born_charges.detach(), gradient))
    for found, wanted in zip(*results):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_a_batch_is_its_structures(make_frames):
    """Structures of different size and composition in one batch do not see each other."""
    model = make_model("mode 2")
    forward, vector, builder = make_forward(model, "double")
    frames = make_frames(2) + make_frames(1, n_atoms=5, symbols="H")
    together = forward(vector, builder.build(frames, [0, 1, 2])).energies
    apart = torch.cat([forward(vector, builder.build([frame], [0])).energies for frame in frames])
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)


def test_equal_to_calorine(make_frames, tmp_path):
    """Forces and charges of a charge model by another code, read from the written file."""
    calorine = pytest.importorskip("calorine.calculators")
    model = make_model("mode 2")
    model.invariants = [True, True, False, False, False, False]
    model.l_max = 3
    parameters = np.random.default_rng(0).normal(size=model.n_parameters)
    model.parameters = 0.3 * parameters
    path = tmp_path / "nep.txt"
    model.write(str(path))
    frame = make_frames(1)[0]
    forward, vector, builder = make_forward(Model.read(str(path)), "double")
    batch = builder.build([frame], [0])
    prediction = forward(vector, batch)
    forces = np.empty((frame.n_atoms, 3))
    forces[batch.original] = prediction.forces.numpy()
    atoms = Atoms(
        [model.elements[t] for t in frame.types], frame.positions, cell=frame.cell, pbc=True
    )
    atoms.calc = calorine.CPUNEP(str(path))
    close(forces, atoms.get_forces(), 1e-8)
    close(prediction.energies[0], atoms.get_potential_energy(), 1e-8)


def test_published_training_energies_and_charges(shared_data):
    """GPUMD's own predictions for its training set, float32 with six printed digits."""
    from qnep.io import read_frames
    from qnep.train.frames import FrameReader

    folder = shared_data / "qnep_train"
    model = Model.read(str(folder / "nep.txt"))
    frame = FrameReader(model.elements).read(read_frames(folder / "train.xyz")[0], "first")
    forward, vector, builder = make_forward(model, "double")
    batch = builder.build([frame], [0])
    prediction = forward(vector, batch)
    assert float(prediction.energies[0]) / 250 == pytest.approx(
        np.loadtxt(folder / "energy_train.out")[0, 0], abs=1e-5
    )
    charges = np.empty(250)
    charges[batch.original] = prediction.raw_charges.numpy()
    np.testing.assert_allclose(charges, np.loadtxt(folder / "charge_train.out")[:250], atol=5e-6)
