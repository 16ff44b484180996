"""Perfect, molten and half-molten NaF, nuclei of known size and turn, and what must not be taken for NaF."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from qnep.analysis import Frame
from qnep.analysis.bond_cutoffs import BondCutoffs
from qnep.analysis.bonds import neighbor_pairs
from qnep.analysis.crystals import (
    NAF,
    SODIUM,
    CrystalAnalysis,
    Lattice,
    find_crystals,
    mean_orientation,
)

pytest.importorskip("ovito")

EDGE = 4.63  # Å, NaF
HOT = 0.15  # Å per coordinate, about that of NaF at 700 K


def naf(n=5):
    return bulk("NaF", "rocksalt", a=EDGE, cubic=True).repeat(n)


def shake(atoms, sigma, seed=0):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(size=atoms.positions.shape) * sigma
    return atoms


def molten(atoms, seed=1):
    """The ions where a soft repulsion between all of them leaves random points: a liquid without order.

    Random points are pushed apart until none is nearer than 2 Å; densities stay those of the crystal.
    """
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.positions = rng.random((len(atoms), 3)) @ atoms.cell
    for _ in range(60):
        frame = Frame.from_ase(atoms)
        i, j, vector = neighbor_pairs(frame, 2.1, vectors=True)
        distance = np.linalg.norm(vector, axis=1)
        push = 0.5 * ((2.1 - distance) / np.maximum(distance, 1e-3))[:, None] * vector
        np.add.at(atoms.positions, i, -push)
        np.add.at(atoms.positions, j, push)
    return atoms


@pytest.mark.parametrize("sigma", [0.0, HOT])
def test_perfect_crystal(sigma):
    state = find_crystals(Frame.from_ase(shake(naf(), sigma)), NAF)
    assert state.fraction == 1.0
    assert [one.size for one in state.nuclei] == [1000]
    assert state.n_amorphous == 0


def test_molten():
    state = find_crystals(Frame.from_ase(molten(naf())), NAF)
    assert state.fraction < 0.02
    assert state.n_amorphous > 300


@pytest.mark.parametrize("seed", range(3))
def test_half_molten(seed):
    """A box whose upper half is molten: the fraction is within 5 % of the truth."""
    solid = shake(naf(6), HOT, seed)
    cell = solid.cell.copy()
    cell[2, 2] *= 2
    liquid = molten(naf(6), seed + 10)
    liquid.positions[:, 2] %= 6 * EDGE
    liquid.positions[:, 2] += 6 * EDGE
    both = solid + liquid
    both.set_cell(cell)
    state = find_crystals(Frame.from_ase(both), NAF)
    assert state.fraction == pytest.approx(0.5, rel=0.05)
    assert len(state.nuclei) == 1


def test_sodium_is_not_naf_and_the_other_way_round():
    metal = shake(bulk("Na", "bcc", a=4.22, cubic=True).repeat(5), 0.2)
    assert find_crystals(Frame.from_ase(metal), SODIUM).fraction == 1.0
    assert find_crystals(Frame.from_ase(metal), NAF).nuclei == []
    assert find_crystals(Frame.from_ase(shake(naf(), HOT)), SODIUM).nuclei == []


def test_fluorite_is_not_rocksalt():
    """Na2O has an fcc sublattice too, with sodium in its tetrahedral holes."""
    oxide = bulk("ONa2", "fluorite", a=5.55, cubic=True).repeat(4)
    assert find_crystals(Frame.from_ase(oxide), Lattice.parse("rocksalt:Na,O")).nuclei == []


def test_nucleus_size_place_and_orientation():
    """A turned cube of 7 x 7 x 7 ions across the corner of the box: all but its 8 corners are found."""
    cube = naf(4)
    cube = cube[(cube.positions < 3.2 * EDGE).all(axis=1)]
    turn = Rotation.from_euler("xyz", [12.0, 25.0, 40.0], degrees=True)
    positions = turn.apply(cube.positions - cube.positions.mean(axis=0))
    box = np.eye(3) * 60.0
    frame = Frame((positions + 59.0) % 60.0, cube.numbers, box, np.ones(3, dtype=bool))
    (nucleus,) = find_crystals(frame, NAF).nuclei
    assert len(cube) == 343
    assert nucleus.size == 343 - 8
    assert nucleus.center == pytest.approx([59.0] * 3, abs=1e-6)
    assert nucleus.sphericity == pytest.approx(1.0, abs=1e-6)
    apart = Rotation.from_matrix(nucleus.axes.T).inv() * turn
    assert apart.reduce(Rotation.create_group("O")).magnitude() < 1e-6
    assert nucleus.orientation_spread < 1e-4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("lattice", "crystal", "sigma"),
    [
        (NAF, bulk("NaF", "rocksalt", a=EDGE, cubic=True), 0.12),
        (SODIUM, bulk("Na", "bcc", a=4.22, cubic=True), 0.15),
    ],
    ids=["NaF", "Na"],
)
@pytest.mark.parametrize(
    "turn",
    [
        Rotation.from_rotvec(np.radians(60.0) / np.sqrt(3.0) * np.ones(3)),  # farthest from a cube
        Rotation.from_euler("z", 45.0, degrees=True),
        Rotation.from_euler("xyz", [12.0, 25.0, 40.0], degrees=True),
    ],
    ids=["60 about 111", "45 about z", "any"],
)
def test_hot_turned_crystal_gives_back_its_orientation(lattice, crystal, sigma, turn, seed):
    """A ball: of some 200 to 1000 templates, each off by 1° or 2°, the mean is off by 0.1°; 0.3° is three times that.

    Atoms near the rim of what cube rotations tell apart are matched with different ones of them.
    """
    atoms = crystal.repeat(8)
    positions = atoms.positions - atoms.positions.mean(axis=0)
    chosen = np.linalg.norm(positions, axis=1) < 15.0
    positions = turn.apply(positions[chosen])
    positions += np.random.default_rng(seed).normal(size=positions.shape) * sigma
    frame = Frame(positions + 40.0, atoms.numbers[chosen], np.eye(3) * 80.0, np.ones(3, dtype=bool))
    nucleus = find_crystals(frame, lattice).nuclei[0]
    apart = Rotation.from_matrix(nucleus.axes.T).inv() * turn
    error = apart.reduce(right=Rotation.create_group("O")).magnitude()
    assert np.degrees(error) < 0.3
    # a cube axis is one in the frame, not in the crystal: each lies along one of the turned axes
    cosines = np.abs(nucleus.axes @ turn.as_matrix())
    assert cosines.max(axis=1).min() > np.cos(np.radians(0.3))


def test_mean_orientation_of_cubes_that_look_the_same():
    """300 turns of 4° noise, each in another of the 24 ways to write it: 4° / √300 in each direction is 0.4°.

    The mean angle of three normal angles of 4° is 4° √(8/π) = 6.4°.
    """
    rng = np.random.default_rng(0)
    turn = Rotation.from_euler("xyz", [20.0, 30.0, 50.0], degrees=True)
    noise = Rotation.from_rotvec(np.radians(4.0) * rng.normal(size=(300, 3)))
    group = Rotation.create_group("O")
    mean, spread = mean_orientation(turn * noise * group[rng.integers(24, size=300)])
    error = np.degrees((mean.inv() * turn).reduce(right=group).magnitude())
    assert error < 3 * 4.0 / np.sqrt(300)
    assert spread == pytest.approx(4.0 * np.sqrt(8 / np.pi), rel=0.05)


@pytest.mark.parametrize(
    ("lattice", "crystal"),
    [
        (Lattice.parse("bcc:K"), bulk("K", "bcc", a=5.321, cubic=True)),
        (SODIUM, bulk("Na", "bcc", a=4.22, cubic=True)),
        (Lattice.parse("rocksalt:K,F"), bulk("KF", "rocksalt", a=5.34, cubic=True)),
        (NAF, bulk("NaF", "rocksalt", a=EDGE, cubic=True)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_crystal_across_the_cell_edge_is_whole(lattice, crystal):
    """Potassium's nearest neighbours are 4.608 Å apart. All pair distances are those of the crystal that was cut."""
    atoms = crystal.repeat(5)
    cut = (atoms.positions - 3.0) % 50.0
    frame = Frame(cut, atoms.numbers, np.eye(3) * 50.0, np.ones(3, dtype=bool))
    cutoffs = BondCutoffs({"K-K": (5.6, 6.2), "F-K": (3.4, 3.8)})
    (nucleus,) = find_crystals(frame, lattice, cutoffs=cutoffs).nuclei
    assert nucleus.size > 100
    whole = atoms.positions[nucleus.atoms]
    assert np.ptp(cut[nucleus.atoms], axis=0).min() > 40.0
    assert nucleus.positions - nucleus.positions[0] == pytest.approx(whole - whole[0], abs=1e-9)
    assert nucleus.height == pytest.approx(np.ptp(whole[:, 2]), abs=1e-9)
    # the means may differ by a vector of the cell
    apart = nucleus.center - (whole.mean(axis=0) - 3.0)
    assert apart - 50.0 * np.round(apart / 50.0) == pytest.approx(np.zeros(3), abs=1e-9)


def test_contact_angle_of_a_half_ball():
    """A half ball has a contact angle of 90°; the ions' raggedness costs a few degrees."""
    ball = naf(10)
    center = np.array([5 * EDGE, 5 * EDGE, 5 * EDGE - 0.1])
    away = ball.positions - center
    ball = ball[(np.linalg.norm(away, axis=1) < 18.0) & (away[:, 2] > 0)]
    ball.set_cell([80, 80, 80])
    (nucleus,) = find_crystals(Frame.from_ase(ball), NAF).nuclei
    assert nucleus.contact_angle == pytest.approx(90.0, abs=8.0)
    assert nucleus.height == pytest.approx(18.0, abs=EDGE / 2)


def test_two_nuclei_and_salt_that_is_none():
    """Two cubes are two nuclei; the F of PF6- are no anions of the salt."""
    cube = naf(3)
    other = cube.copy()
    other.positions += [25.0, 0.0, 0.0]
    both = cube + other
    far = np.array([60.0, 60.0, 60.0])
    both += Atoms("PF6", np.vstack((far, far + 1.6 * np.eye(3), far - 1.6 * np.eye(3))))
    both.set_cell([90, 90, 90])
    state = find_crystals(Frame.from_ase(both), NAF)
    assert len(state.nuclei) == 2
    assert state.n_atoms == 2 * 108 * 2


@pytest.mark.parametrize("text", ["fcc:Na", "rocksalt:Na", "bcc:Na,F", "bcc"])
def test_unknown_lattices(text):
    with pytest.raises(ValueError, match=r"lattice must be|element\(s\)"):
        Lattice.parse(text)


def test_history_does_not_hold_the_atoms_of_all_frames():
    """216 crystalline ions, 64, 216: sizes of every frame, atoms of the last, a state that hardly grows."""
    large, small = naf(3), naf(2)
    frames = [Frame.from_ase(atoms, k, 5.0 * k) for k, atoms in enumerate([large, small, large])]
    analysis = CrystalAnalysis([NAF, SODIUM])
    sizes = []
    for frame in frames:
        analysis.add(frame)
        sizes.append(len(pickle.dumps(analysis)))
    history = analysis.result()["NaF"]
    assert history.times == [0.0, 5.0, 10.0]
    assert history.largest == [216, 64, 216]
    assert history.fraction == [1.0, 1.0, 1.0]
    assert history.n_atoms == [216, 64, 216]
    assert [one.size for one in history.last.nuclei] == [216]
    assert analysis.result()["Na"].largest == [0, 0, 0]
    assert sizes[2] - sizes[0] < 500  # bytes; the indices of one frame take 1728
