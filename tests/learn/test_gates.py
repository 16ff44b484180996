"""Gates against answers that are known by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from ase.units import kB

from qnep.learn.alarms import BondJump, ClosestPair, EnergyJump, ForceCeiling, Temperature
from qnep.learn.deviation import ForceDeviation
from qnep.learn.extrapolation import (
    FLOOR,
    SWAP_GAIN,
    ActiveSet,
    ActiveSetError,
    ExtrapolationGrade,
    maximal_volume_rows,
)
from qnep.learn.finding import Finding, Observation
from qnep.learn.similarity import SPACING, Environments, SimilarityScreen
from qnep.learn.threshold import AdaptiveThreshold


def observe(atoms: Atoms, features: np.ndarray | None = None, **results: object) -> Observation:
    return Observation(atoms, results, lambda _: np.asarray(features))


def fixed(value: float) -> AdaptiveThreshold:
    return AdaptiveThreshold(0.25, value, value, value)


# --- committee ----------------------------------------------------------------------------------------------------


def test_force_deviation_is_the_norm_of_the_worst_atom():
    """3-4-5: components 0.3 and 0.4 give 0.5 eV/Å."""
    std = np.array([[0.1, 0.0, 0.0], [0.3, 0.4, 0.0], [0.0, 0.0, 0.2]])
    finding = ForceDeviation(fixed(0.15)).judge(observe(Atoms("H3"), forces_std=std))
    assert finding.value == pytest.approx(0.5, abs=1e-12)
    assert finding.fires and finding.atoms == (1, 2)


def test_force_deviation_needs_a_committee():
    with pytest.raises(ValueError, match="at least two members"):
        ForceDeviation(fixed(0.1)).judge(observe(Atoms("H"), forces=np.zeros((1, 3))))


# --- extrapolation ------------------------------------------------------------------------------------------------


def test_rows_have_nearly_the_largest_volume_of_all_choices(generator):
    """All 1140 triples by brute force; a MaxVol set is within 3^(3/2) of the best by theory, and usually close."""
    candidates = generator.normal(size=(20, 3))
    rows = maximal_volume_rows(candidates, 1e-3)
    best = max(abs(np.linalg.det(candidates[list(k)])) for k in combinations(range(20), 3))
    assert {tuple(row) for row in rows} <= {tuple(row) for row in candidates}
    assert abs(np.linalg.det(rows)) > best / 3**1.5
    assert np.abs(candidates @ np.linalg.inv(rows)).max() <= SWAP_GAIN + 1e-9


def test_grade_inside_and_outside_of_an_interval():
    """Features -1 ... 1 are spanned by the two ends: b = ((1+x)/2, (1-x)/2) has the grade |1+|x||/2 beyond them."""
    active = ActiveSet.fit({"Na": np.linspace(-1, 1, 11)[:, None]})
    grades = active.grades(np.array([[0.0], [1.0], [-1.0], [3.0]]), ["Na"] * 4)
    assert grades == pytest.approx([0.5, 1.0, 1.0, 2.0], abs=1e-9)


def test_a_direction_without_data_is_graded_by_the_floor():
    active = ActiveSet.fit({"O": np.array([[1.0, 0.0], [-1.0, 0.0]])})
    assert active.grades(np.array([[0.0, 4 * FLOOR]]), ["O"])[0] == pytest.approx(4.0, abs=1e-9)


def test_elements_have_sets_of_their_own_and_a_new_one_is_infinitely_far():
    active = ActiveSet.fit({"H": np.array([[1.0], [-1.0]]), "O": np.array([[10.0], [-10.0]])})
    grades = active.grades(np.full((3, 1), 5.0), ["H", "O", "F"])
    assert grades[:2] == pytest.approx([3.0, 0.75], abs=1e-9)
    finding = ExtrapolationGrade(fixed(2.0), active).judge(
        observe(Atoms("HOF"), np.full((3, 1), 5.0))
    )
    assert finding.fires and finding.atoms == (2, 0)


def test_active_set_on_disk(tmp_path, generator):
    active = ActiveSet.fit({"H": generator.normal(size=(30, 4))}, digest="abc")
    active.save(tmp_path / "active.npz")
    again = ActiveSet.load(tmp_path / "active.npz", digest="abc")
    np.testing.assert_array_equal(again.inverses["H"], active.inverses["H"])
    with pytest.raises(ActiveSetError, match="another model"):
        ActiveSet.load(tmp_path / "active.npz", digest="def")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "active.npz").read_bytes()[:100])
    with pytest.raises(ActiveSetError, match="not an active set"):
        ActiveSet.load(tmp_path / "cut.npz")


# --- similarity ---------------------------------------------------------------------------------------------------


def test_distance_is_the_root_mean_square_to_the_nearest_of_the_same_element():
    """From (0, 0) to (0.6, 0.8): sqrt((0.36 + 0.64) / 2)."""
    known = Environments(spacing=0.1)
    known.add(np.array([[0.6, 0.8], [5.0, 5.0], [0.0, 0.0]]), ["H", "H", "O"])
    distances = known.distances(np.zeros((3, 2)), ["H", "O", "F"])
    assert distances == pytest.approx([np.sqrt(0.5), 0.0, np.inf], abs=1e-12)


def test_screen_looks_only_at_the_atoms_in_question():
    screen = SimilarityScreen(0.1)
    screen.add(np.zeros((1, 2)), ["H"])
    observation = observe(Atoms("H3"), np.array([[0.0, 0.0], [1.0, 1.0], [0.05, 0.0]]))
    assert screen.judge(observation).atoms == (1,)
    assert not screen.judge(observation, atoms=(0, 2)).fires
    with pytest.raises(ValueError, match="positive, got 0"):
        SimilarityScreen(0.0)


def test_all_atoms_that_object_are_screened_and_twenty_are_written_down():
    """The five that are new are the least uncertain of 25."""
    std = np.zeros((25, 3))
    std[:, 0] = np.linspace(1.0, 0.5, 25)
    features = np.repeat([[0.0, 0.0], [5.0, 5.0]], [20, 5], axis=0)
    observation = observe(Atoms("H25"), features, forces_std=std)
    finding = ForceDeviation(fixed(0.15)).judge(observation)
    screen = SimilarityScreen(0.1)
    screen.add(np.zeros((1, 2)), ["H"])
    assert screen.judge(observation, finding.atoms).atoms == (20, 21, 22, 23, 24)
    assert finding.as_dict()["atoms"] == tuple(range(20))


@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_labelled_environments_stay_known(generator, spread):
    """4000 points of a square, packed or far apart: thinning leaves none farther than half the threshold."""
    points = spread * generator.uniform(size=(4000, 2))
    symbols = ["Na"] * len(points)
    screen, known = SimilarityScreen(0.1), Environments(SPACING * 0.1)
    screen.add(points, symbols)
    known.add(points, symbols)
    assert known.distances(points, symbols).max() <= SPACING * 0.1
    assert not screen.judge(observe(Atoms(symbols), points)).fires
    # Disks of half the spacing, sqrt(2) larger as lengths in the plane, do not overlap.
    most = (1 + 0.1) ** 2 / (np.pi * (0.05 / np.sqrt(2)) ** 2)
    n_kept = screen.n_environments["Na"]
    assert n_kept < most if spread == 1.0 else n_kept > 3800


def test_the_same_environments_are_kept_one_by_one_and_all_at_once(generator):
    """A run adds labels one by one, a resumed one all at once; the nearest is that of the whole table of distances."""
    points = generator.uniform(size=(3000, 3))
    symbols = np.array(["H", "O"])[generator.integers(2, size=len(points))]
    whole, grown = Environments(0.02), Environments(0.02)
    whole.add(points, list(symbols))
    for start in range(0, len(points), 40):
        grown.add(points[start : start + 40], list(symbols[start : start + 40]))
    assert whole.counts == grown.counts
    for element in ("H", "O"):
        kept = whole._kept[element].vectors
        np.testing.assert_array_equal(kept, grown._kept[element].vectors)
        asked = generator.uniform(size=(50, 3))
        table = np.sqrt(((asked[:, None] - kept) ** 2).mean(axis=2))
        for known in (whole, grown):
            distances = known.distances(asked, [element] * 50)
            np.testing.assert_allclose(distances, table.min(axis=1), rtol=1e-12)


def test_an_environment_that_is_not_a_number_is_unknown():
    known = Environments(0.1)
    known.add(np.array([[0.0, 0.0], [np.nan, 0.0]]), ["H", "H"])
    assert known.counts == {"H": 1}
    distances = known.distances(np.array([[np.nan, 0.0], [0.0, 0.0]]), ["H", "H"])
    assert distances.tolist() == [np.inf, 0.0]


# --- alarms -------------------------------------------------------------------------------------------------------


def test_closest_pair_in_sums_of_covalent_radii_across_the_boundary():
    """O and H at 0.48 Å through the cell wall: 0.48 / (0.66 + 0.31)."""
    atoms = Atoms("OH", [[0.1, 2, 2], [9.62, 2, 2]], cell=[10, 10, 10], pbc=True)
    finding = ClosestPair(0.6).judge(observe(atoms))
    assert finding.value == pytest.approx(0.48 / 0.97, abs=1e-9)
    assert finding.fires and set(finding.atoms) == {0, 1}
    atoms.positions[1, 0] = 5.0
    assert not ClosestPair(0.6).judge(observe(atoms)).fires


def test_temperature_allows_the_fluctuation_of_small_cells():
    """Two atoms at 300 K: limit 300 (1 + 6 sqrt(1/3)) = 1339 K; a thousand: 450 K."""
    for n_atoms, limit in ((2, 300 * (1 + 6 * np.sqrt(1 / 3))), (1000, 450.0)):
        atoms = Atoms(f"H{n_atoms}")
        speed = np.sqrt(3 * kB * 1000 / atoms.get_masses())
        atoms.set_velocities(np.outer(speed, [1, 0, 0]))
        finding = Temperature(300.0).judge(observe(atoms))
        assert finding.value == pytest.approx(1000.0, rel=1e-9)
        assert finding.threshold == pytest.approx(limit)
        assert finding.fires == (n_atoms == 1000)


def test_temperature_is_that_of_the_atoms_that_move():
    """Two of a thousand move, with a limit of 1339 K; by the count of all it would be 450 K."""
    atoms = Atoms("H1000")
    atoms.set_constraint(FixAtoms(range(2, 1000)))
    speed = np.sqrt(3 * kB * 1200 / atoms.get_masses()[0])
    velocities = np.zeros((1000, 3))
    velocities[:2, 0] = speed
    atoms.set_velocities(velocities)
    finding = Temperature(300.0).judge(observe(atoms))
    assert finding.value == pytest.approx(1200.0, rel=1e-9)
    assert finding.threshold == pytest.approx(300 * (1 + 6 * np.sqrt(1 / 3)))
    assert not finding.fires


def test_energy_jump_compares_with_the_look_before():
    gate = EnergyJump(0.1)
    atoms = Atoms("H10")
    changes = [gate.judge(observe(atoms, energy=energy)) for energy in (-5.0, -5.5, -3.5, np.nan)]
    assert [finding.fires for finding in changes] == [False, False, True, True]
    assert changes[2].value == pytest.approx(0.2)


def test_bond_jump_counts_covalent_bonds_only():
    """Water with sodium beside it: two bonds; one hydrogen torn off: one."""
    atoms = Atoms("OHHNa", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0], [0, 0, 2.2]])
    gate = BondJump(0.5)
    gate.judge(observe(atoms))
    assert gate.previous == 2
    atoms.positions[1, 0] = 3.0
    assert gate.judge(observe(atoms)).fires and gate.previous == 1


def test_force_ceiling_also_stops_what_is_not_a_number():
    gate = ForceCeiling(25.0)
    assert not gate.judge(observe(Atoms("H"), forces=np.array([[0, 0, 24.0]]))).fires
    assert gate.judge(observe(Atoms("H"), forces=np.array([[0, 0, 26.0]]))).atoms == (0,)
    assert gate.judge(observe(Atoms("H"), forces=np.full((1, 3), np.nan))).fires


# --- thresholds ---------------------------------------------------------------------------------------------------


def test_threshold_follows_the_ratio_of_error_to_measure():
    """Errors twice the measure: 0.25 eV/Å is reached at 0.125."""
    threshold = AdaptiveThreshold(0.25, initial=0.2, lower=0.01, upper=1.0)
    for measure in (0.1, 0.2, 0.3, 0.4):
        threshold.add(measure, 2 * measure)
    assert threshold.value == 0.2
    threshold.add(0.5, 1.0)
    assert threshold.value == pytest.approx(0.125)


def test_threshold_takes_the_cautious_quantile_and_keeps_its_limits():
    """Ratios 1 ... 11: the 0.8 quantile is 9."""
    threshold = AdaptiveThreshold(0.9, initial=0.3, lower=0.05, upper=0.5)
    for ratio in range(1, 12):
        threshold.add(0.1, 0.1 * ratio)
    assert threshold.value == pytest.approx(0.1)
    for _ in range(200):
        threshold.add(1.0, 1e-6)
    assert threshold.value == 0.5


def test_threshold_of_errors_that_hardly_grow():
    """Errors of 0.1 at any measure up to 3: up to there all were better than tolerated, four in ten above."""
    threshold = AdaptiveThreshold(0.25, initial=0.2, lower=0.01, upper=10.0)
    for measure in np.linspace(0.1, 3.0, 30):
        threshold.add(measure, 0.1)
    assert threshold.value == pytest.approx(3.0)
    for k, measure in enumerate(np.linspace(3.1, 4.0, 10)):
        threshold.add(measure, 0.5 if k % 5 < 2 else 0.1)
    assert threshold.value == pytest.approx(3.0)
    for measure in np.linspace(3.1, 4.0, 40):  # as many good ones: one in five is worse
        threshold.add(measure, 0.1)
    assert 3.9 < threshold.value <= 4.0


def test_threshold_survives_json():
    threshold, again = (AdaptiveThreshold(0.25, 0.2, 0.01, 1.0) for _ in range(2))
    for k in range(7):
        threshold.add(0.1 + 0.01 * k, 0.3)
    again.restore(threshold.as_dict())
    assert again.value == threshold.value != 0.2


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0.25, 0.2, 0.3, 1.0), "got 0.3, 0.2, 1"),
        ((0.25, 0.2, 0.0, 1.0), "0 < lower"),
        ((-1.0, 0.2, 0.1, 1.0), "must be positive, got -1"),
        ((0.25, float("nan"), 0.1, 1.0), "got 0.1, nan, 1"),
    ],
)
def test_thresholds_out_of_range(numbers, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveThreshold(*numbers)


def test_a_finding_reads_well_and_survives_json():
    finding = Finding("force deviation", 0.5, 0.15, "eV/Å", True, (1, 2))
    assert str(finding) == "! force deviation: 0.5 against 0.15 eV/Å, atoms 1 2"
    assert Finding.from_dict(finding.as_dict()) == finding
