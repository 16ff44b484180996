"""g(r) against MDAnalysis' own, ion pairs of hand-made frames, residence of a scripted exchange."""

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scripted import pf6

from qnep.analysis import Frame
from qnep.analysis.deposition import DepositionAnalysis
from qnep.analysis.solvation import RadialDistributions, SolvationAnalysis, residence_time

BOX = np.eye(3) * 24.0


def test_rdf_and_coordination_agree_with_mdanalysis():
    """Same frames, same bins, a triclinic cell: counts agree but for single-precision distances at bin edges."""
    mda = pytest.importorskip("MDAnalysis")
    from MDAnalysis.analysis.rdf import InterRDF
    from MDAnalysis.coordinates.memory import MemoryReader

    rng = np.random.default_rng(0)
    cell = np.array([[18.0, 0.0, 0.0], [3.0, 17.0, 0.0], [-2.0, 1.0, 19.0]])
    atoms = Atoms("Na60O200", cell=cell, pbc=True)
    coordinates = np.array([rng.random((260, 3)) @ cell for _ in range(4)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = mda.Universe.empty(260, trajectory=True)
        dimensions = np.tile(atoms.cell.cellpar(), (4, 1)).astype(np.float32)
        universe.load_new(
            coordinates.astype(np.float32), format=MemoryReader, dimensions=dimensions
        )
        rdf = InterRDF(universe.atoms[:60], universe.atoms[60:], nbins=80, range=(0.0, 8.0)).run()
    mine = RadialDistributions([("Na", "O")], r_max=8.0, n_bins=80)
    for positions in coordinates:
        atoms.positions = positions
        mine.add(Frame.from_ase(atoms))
    (result,) = mine.result()
    assert np.allclose(result.r, rdf.results.bins)
    coordination = np.cumsum(rdf.results.count) / (4 * 60)
    assert np.allclose(result.coordination, coordination, atol=0.01)
    assert np.allclose(result.g, rdf.results.rdf, atol=0.05)


def test_shells_of_rocksalt_by_hand():
    """NaF: 6 F at 2.315 Å, then 8 at 4.01 Å; 12 Na at 3.27 Å around Na; the cell is smaller than r_max."""
    frame = Frame.from_ase(bulk("NaF", "rocksalt", a=4.63, cubic=True))
    rdf = RadialDistributions([("Na", "F"), ("Na", "Na")], r_max=4.5, n_bins=90)
    rdf.add(frame)
    with_f, with_na = rdf.result()
    assert with_f.coordination[np.searchsorted(with_f.edges, 3.0) - 1] == pytest.approx(6)
    assert with_f.coordination[-1] == pytest.approx(14)
    assert with_na.coordination[np.searchsorted(with_na.edges, 4.0) - 1] == pytest.approx(12)


def test_first_minimum_lies_between_the_shells():
    rng = np.random.default_rng(1)
    atoms = bulk("NaF", "rocksalt", a=4.63, cubic=True).repeat(3)
    rdf = RadialDistributions([("Na", "F")], r_max=5.0, n_bins=100)
    for _ in range(5):
        shaken = atoms.copy()
        shaken.positions += 0.15 * rng.normal(size=shaken.positions.shape)
        rdf.add(Frame.from_ase(shaken))
    assert 2.6 < rdf.result()[0].first_minimum() < 3.6


def salt_frame(distances, shared=False):
    """One Na per distance with its own PF6 whose nearest F is that far; two Na on the first if shared."""
    atoms = Atoms(cell=BOX, pbc=True)
    for k, distance in enumerate(distances):
        site = np.array([4.0, 4.0 + 8.0 * k, 6.0])
        anion = pf6()
        anion.positions += site + [1.6 + distance, 0.0, 0.0]
        atoms += Atoms("Na", [site]) + anion
    if shared:
        atoms += Atoms("Na", [atoms.positions[1] + [1.6 + 2.3, 0.0, 0.0]])
    return Frame.from_ase(atoms)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (salt_frame([5.0, 5.0]), (2, 0, 0)),
        (salt_frame([2.3, 5.0]), (1, 1, 0)),
        (salt_frame([2.3, 2.4]), (0, 2, 0)),
        (salt_frame([2.3, 5.0], shared=True), (1, 0, 2)),
    ],
)
def test_ion_pairs_of_hand_made_frames(frame, expected):
    analysis = SolvationAnalysis("Na", ["F"], r_max=4.0)
    analysis.add(frame)
    (shells,) = analysis.result().shells
    assert (shells.n_ssip, shells.n_cip, shells.n_agg) == expected
    assert sum(shells.fractions) == pytest.approx(1.0)


def test_two_anions_on_one_cation_are_an_aggregate():
    frame = salt_frame([2.3])
    second = pf6()
    second.positions += frame.positions[0] - [1.6 + 2.3, 0.0, 0.0]
    atoms = frame.to_ase() + second
    analysis = SolvationAnalysis("Na", ["F"], r_max=4.0)
    analysis.add(Frame.from_ase(atoms))
    assert analysis.result().shells[0].n_agg == 1
    assert analysis.result().shells[0].coordination == {"F": 2.0}


def test_solvent_is_no_anion_and_metal_no_cation():
    """Two waters on a Na+ are no anions; the atoms of a Na crystal are not counted."""
    atoms = bulk("Na", "bcc", a=4.22, cubic=True).repeat((3, 3, 2))
    atoms.set_cell([12.66, 12.66, 30.0])
    ion = np.array([6.0, 6.0, 20.0])
    for side in (1, -1):
        oxygen = ion + [side * 2.4, 0.0, 0.0]
        atoms += Atoms(
            "OH2", [oxygen, oxygen + [0.6 * side, 0.76, 0], oxygen + [0.6 * side, -0.76, 0]]
        )
    atoms += Atoms("Na", [ion])
    analysis = SolvationAnalysis("Na", ["O"], r_max=4.0)
    analysis.add(Frame.from_ase(atoms))
    (shells,) = analysis.result().shells
    assert (shells.n_cations, shells.n_ssip) == (1, 1)
    assert shells.coordination["O"] == 2.0


def slab_and_octahedra(first_oxygen=2.4):
    """A slab of 200 Na and four ions far above it, each among six O at 2.4 Å (the first O of each as told)."""
    slab = bulk("Na", "bcc", a=4.22, cubic=True).repeat((5, 5, 4))
    slab.set_cell([21.1, 21.1, 60.0])
    axes = 2.4 * np.vstack((np.eye(3), -np.eye(3)))
    axes[0] *= first_oxygen / 2.4
    for x, y in ((5, 5), (5, 15), (15, 5), (15, 15)):
        site = np.array([x, y, 35.0])
        slab += Atoms("NaO6", np.vstack((site, site + axes)))
    return slab


def test_only_ions_are_centres_beside_a_metal():
    """By hand: six O around each of the four ions, whatever the 200 Na of the slab do."""
    analysis = SolvationAnalysis("Na", ["O"], r_max=4.0)
    analysis.add(Frame.from_ase(slab_and_octahedra()))
    result = analysis.result()
    (rdf,) = result.distributions
    within = rdf.coordination[np.searchsorted(rdf.edges, 3.0) - 1]
    assert within == pytest.approx(6.0)
    assert result.shells[0].coordination["O"] == 6.0
    shell = 4 / 3 * np.pi * np.diff(rdf.edges**3)
    ideal = 24 / (21.1 * 21.1 * 60.0) * shell  # O of uniform density
    assert (rdf.g * ideal).sum() == pytest.approx(rdf.coordination[-1])


def test_contacts_of_the_metal_are_no_residence():
    """O on the slab comes and goes, that on the ions stays: nothing decays."""
    analysis = SolvationAnalysis("Na", ["O"], r_max=4.0, n_lags=3)
    for k in range(6):
        atoms = slab_and_octahedra()
        top = atoms.positions[:200, 2].max()
        atoms += Atoms("O", [[8.44, 8.44, top + (2.3 if k % 2 else 8.0)]])
        analysis.add(Frame.from_ase(atoms, k, 10.0 * k))
    result = analysis.result()
    assert [shells.n_cations for shells in result.shells] == [4] * 6
    assert list(result.survival["O"]) == [1.0] * 3


def tetrahedron(symbols, bond):
    """A centre with four atoms around it."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    return Atoms(symbols, np.vstack((np.zeros(3), bond * corners)))


@pytest.mark.parametrize(("symbols", "bond"), [("ClO4", 1.44), ("BF4", 1.40)])
def test_two_ions_on_one_tetrahedral_anion_are_an_aggregate(symbols, bond):
    """No --bond is needed; the ions are electrolyte, none of them in a product."""
    anion = tetrahedron(symbols, bond)
    anion.positions += 12.0
    outwards = (anion.positions[1:3] - anion.positions[0]) / bond
    atoms = anion + Atoms("Na2", anion.positions[1:3] + 2.4 * outwards)
    atoms.set_cell(BOX)
    atoms.set_pbc(True)
    frame = Frame.from_ase(atoms)
    analysis = SolvationAnalysis("Na", [symbols[-2]], r_max=4.0)
    analysis.add(frame)
    (shells,) = analysis.result().shells
    assert (shells.n_ssip, shells.n_cip, shells.n_agg) == (0, 0, 2)
    deposition = DepositionAnalysis("Na")
    deposition.add(frame)
    (row,) = deposition.result()
    assert (row.n_in_sei, row.n_in_electrolyte) == (0, 2)


def test_residence_time_of_random_exchange():
    """Contacts that break with 10 % chance per frame of 5 fs live 5 / -ln 0.9 = 47.5 fs (0.05 by counting noise)."""
    rng = np.random.default_rng(2)
    n, edge = 400, 8.0
    grid = edge * np.stack(np.meshgrid(*[np.arange(8)] * 3), -1).reshape(-1, 3)[:n]
    symbols = ["Na"] * n + ["O"] * n
    distance = np.full(n, 2.4)
    analysis = SolvationAnalysis("Na", ["O"], r_max=4.0, n_lags=15)
    for k in range(60):
        others = grid + np.column_stack((distance, np.zeros(n), np.zeros(n)))
        atoms = Atoms(symbols, np.vstack((grid, others)), cell=[64] * 3, pbc=True)
        analysis.add(Frame.from_ase(atoms, k, 5.0 * k))
        leaves = (rng.random(n) < 0.1) & (distance < 3)
        returns = (rng.random(n) < 0.3) & (distance > 3)
        distance = np.where(leaves, 4.0, np.where(returns, 2.4, distance))
    assert analysis.result().residence["O"] == pytest.approx(5 / -np.log(0.9), rel=0.05)


def test_short_excursions_do_not_end_a_residence():
    """Between form (2.9 Å) and break (3.3 Å) a contact holds; nothing decays, so the time is unknown."""
    analysis = SolvationAnalysis("Na", ["O"], r_max=4.0, n_lags=5)
    for k, d in enumerate([2.4, 3.1, 2.4, 3.2, 2.4, 3.1]):
        analysis.add(
            Frame.from_ase(Atoms("NaO", [[0, 0, 0], [0, 0, d]], cell=BOX, pbc=True), k, 10.0 * k)
        )
    result = analysis.result()
    assert list(result.survival["O"]) == [1.0] * 5
    assert np.isnan(result.residence["O"])


def test_residence_time_of_an_exponential():
    assert residence_time(np.exp(-np.arange(20) / 7.0), 2.0) == pytest.approx(14.0)


def test_no_box_no_density():
    with pytest.raises(ValueError, match=r"g\(r\) needs a box"):
        RadialDistributions([("Na", "O")]).add(Frame.from_ase(Atoms("NaO", [[0, 0, 0], [0, 0, 2]])))
