"""An interface put together by hand: profiles, thickness, roughness and counts are those it was given."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scripted import embed, pf6

from qnep.analysis import Frame
from qnep.analysis.deposition import DepositionAnalysis
from qnep.analysis.layers import LayerAnalysis, heights
from qnep.analysis.materials import Material, MaterialSorter

EDGE = 18.52  # Å: four cells of NaF
LENGTH = 70.0


def make_interface(shift=0.0, n_intact=3, extra_naf=()):
    """128 Na of metal at z 0 to 17, NaF (4 layers) above, DME and NaPF6 far out, wrapped by a shift along z."""
    metal = bulk("Na", "bcc", a=4.22, cubic=True).repeat((4, 4, 4))
    metal.positions *= [EDGE / 16.88, EDGE / 16.88, 1.0]
    metal.set_initial_charges(np.linspace(-0.1, 0.1, len(metal)))
    salt = bulk("NaF", "rocksalt", a=4.63, cubic=True).repeat((4, 4, 4))
    salt = salt[salt.positions[:, 2] < 9.2]
    salt.positions[:, 2] += 17.9
    salt.set_initial_charges(np.where(salt.symbols == "Na", 0.9, -0.9))
    atoms = metal + salt
    for position in extra_naf:
        atoms += Atoms("F", [position], charges=[-0.9])
    for k in range(3):
        molecule = embed("COCCOC") if k < n_intact else embed("COC")
        molecule.positions += [6.0, 6.0 * k + 3.0, 45.0]
        atoms += molecule
    anion = pf6()
    anion.positions += [14.0, 5.0, 45.0]
    atoms += anion + Atoms("Na", [[14.0, 12.0, 45.0]], charges=[0.9])
    atoms.set_cell([EDGE, EDGE, LENGTH])
    atoms.pbc = True
    atoms.positions[:, 2] += shift
    atoms.wrap()
    return atoms


def test_materials_of_every_atom():
    atoms = make_interface()
    material, _, _ = MaterialSorter().sort(Frame.from_ase(atoms))
    counts = np.bincount(material, minlength=5)
    assert counts[Material.METAL] == 128
    assert counts[Material.INORGANIC] == (atoms.symbols == "F").sum() * 2 - 12  # NaF, not PF6-
    assert counts[Material.ELECTROLYTE] == 3 * 16 + 7 + 1
    assert counts[Material.ORGANIC] == counts[Material.GAS] == 0


@pytest.mark.parametrize("shift", [0.0, 33.3])
def test_profiles_integrate_to_what_is_there(shift):
    atoms = make_interface(shift)
    analysis = LayerAnalysis()
    analysis.add(Frame.from_ase(atoms))
    result = analysis.result()
    volume = EDGE**2 * LENGTH / len(result.profiles.z)
    assert result.profiles.composition["F"].sum() * volume == pytest.approx(
        (atoms.symbols == "F").sum()
    )
    assert result.profiles.charge.sum() * volume == pytest.approx(atoms.get_initial_charges().sum())
    mass = sum(profile.sum() for profile in result.profiles.density.values()) * volume
    assert mass == pytest.approx(1.66053907 * atoms.get_masses().sum())


@pytest.mark.parametrize("shift", [0.0, 33.3])
def test_thickness_and_roughness(shift):
    """Metal 4 cells of 4.22 Å; four layers of NaF of 2.315 Å each; smoothing blurs the edges."""
    analysis = LayerAnalysis()
    analysis.add(Frame.from_ase(make_interface(shift)))
    result = analysis.result()
    assert result.thickness[Material.METAL][0] == pytest.approx(4 * 4.22, abs=2.0)
    assert result.thickness[Material.INORGANIC][0] == pytest.approx(4 * 2.315, abs=2.5)
    assert result.roughness[0] == pytest.approx(0.0, abs=1e-9)


def test_roughness_by_hand():
    """One column of 16 (4 x 4 of 4.63 Å) is higher by 6 Å: 6 sqrt(15) / 16 = 1.4524 Å."""
    analysis = LayerAnalysis(column_width=4.63)
    top = make_interface().positions[128:384, 2].max()
    analysis.add(Frame.from_ase(make_interface(extra_naf=[[2.0, 2.0, top + 6.0]])))
    assert analysis.result().roughness[0] == pytest.approx(6 * np.sqrt(15) / 16)


@pytest.mark.parametrize("normal", [0, 1, 2])
def test_heights_along_any_axis_of_a_tilted_cell(normal):
    cell = np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [1.0, 1.5, 12.0]])
    scaled = np.array([[0.1, 0.2, 0.3], [0.3, 0.4, 0.6]])
    frame = Frame(scaled @ cell, np.array([11, 11]), cell, np.ones(3, dtype=bool))
    across = np.cross(*[cell[k] for k in range(3) if k != normal])
    along = (frame.positions[1] - frame.positions[0]) @ across / np.linalg.norm(across)
    found = heights(frame, normal, np.array([True, False]))
    assert found[0] == pytest.approx(0.0, abs=1e-12)
    assert abs(found[1]) == pytest.approx(abs(along))


def test_deposition_counts_add_up():
    """DME decays to dimethyl ether one by one; the counts of Na are those put in, in every row."""
    analysis = DepositionAnalysis()
    for k, n_intact in enumerate([3, 2, 0]):
        analysis.add(Frame.from_ase(make_interface(n_intact=n_intact), k, 10.0 * k))
    rows = analysis.result()
    assert [row.solvent_loss_percent for row in rows] == pytest.approx([0, 100 / 3, 100])
    assert {(r.n_deposited, r.n_in_sei, r.n_in_electrolyte) for r in rows} == {(128, 128, 1)}
    assert [row.salt_loss_percent for row in rows] == [0.0] * 3
    assert rows[0].min_charge == pytest.approx(-0.1)


def test_sodium_that_gets_stuck_is_lost():
    """The one Na+ of the electrolyte moves onto the NaF: all of it is lost to the interphase."""
    atoms = make_interface()
    stuck = atoms.copy()
    stuck.positions[-1] = [0.0, 0.0, atoms.positions[128:384, 2].max() + 2.3]
    analysis = DepositionAnalysis()
    analysis.add(Frame.from_ase(atoms, 0, 0.0))
    analysis.add(Frame.from_ase(stuck, 1, 10.0))
    rows = analysis.result()
    assert [row.cation_loss_percent for row in rows] == [0.0, 100.0]
    assert rows[1].n_in_electrolyte == 0


def test_anode_by_range():
    atoms = make_interface()
    analysis = DepositionAnalysis(anode_range=(40.0, 50.0))
    analysis.add(Frame.from_ase(atoms))
    assert analysis.result()[0].n_deposited == 1


@pytest.mark.parametrize(
    ("low", "high"), [(-20.0, -10.0), (40.0, 50.0), (110.0, 120.0), (-25.0, 45.0)]
)
def test_anode_of_a_box_that_begins_elsewhere(low, high):
    """Na at -15, 0, 20 and 35 Å of a periodic box of 60 Å: the range may be given around any image."""
    heights_given = np.array([-15.0, 0.0, 20.0, 35.0])
    atoms = Atoms(
        "Na4", [[1.0, 5.0 * k, z] for k, z in enumerate(heights_given)], cell=[20.0, 20.0, 60.0]
    )
    images = heights_given + 60.0 * np.arange(-3, 4)[:, None]
    for pbc, there in ((True, images), (False, heights_given[None])):
        atoms.pbc = [True, True, pbc]
        analysis = DepositionAnalysis(anode_range=(low, high))
        analysis.add(Frame.from_ase(atoms))
        expected = ((there >= low) & (there <= high)).any(axis=0).sum()
        assert analysis.result()[0].n_deposited == expected


def make_slab_at_the_bottom(is_periodic, lift=0.0):
    """Na metal at 0 to 17 Å of a cell of 60 Å, NaF on it, DME and NaPF6 around 45 Å, lifted."""
    atoms = make_interface()
    atoms.positions[atoms.positions[:, 2] > 40.0, 2] += lift
    atoms.set_cell([EDGE, EDGE, 60.0])
    atoms.pbc = [True, True, is_periodic]
    return atoms


def test_open_cell_has_the_layers_of_a_periodic_one():
    """The electrolyte lies more than half the cell above the metal's middle: only a periodic cell has it below too."""
    closed, opened = LayerAnalysis(), LayerAnalysis()
    closed.add(Frame.from_ase(make_slab_at_the_bottom(True)))
    opened.add(Frame.from_ase(make_slab_at_the_bottom(False)))
    closed, opened = closed.result(), opened.result()
    wrapped = (opened.profiles.z + 30.0) % 60.0 - 30.0
    for one in Material:
        assert opened.thickness[one] == pytest.approx(closed.thickness[one], abs=1e-6)
        expected = np.interp(wrapped, closed.profiles.z, closed.profiles.density[one])
        assert opened.profiles.density[one] == pytest.approx(expected, abs=1e-9)
    assert opened.thickness[Material.ELECTROLYTE][0] > 3.0
    assert opened.roughness == pytest.approx(closed.roughness)


def test_open_profiles_of_frames_that_reach_differently():
    """The electrolyte is lifted by 10 Å, out of the cell: the mean holds all atoms, half of them at each place."""
    analysis = LayerAnalysis(bin_width=0.5)
    frames = [Frame.from_ase(make_slab_at_the_bottom(False, lift)) for lift in (10.0, 0.0)]
    for frame in frames:
        analysis.add(frame)
    profiles = analysis.result().profiles
    assert np.diff(profiles.z) == pytest.approx(0.5)
    n_atoms = {symbol: y.sum() * 0.5 * EDGE**2 for symbol, y in profiles.composition.items()}
    symbols = frames[0].to_ase().symbols
    assert n_atoms == pytest.approx({one: (symbols == one).sum() for one in set(symbols)})
    p_profile = profiles.composition["P"]
    assert p_profile[p_profile > 0] * 0.5 * EDGE**2 == pytest.approx([0.5, 0.5])
    assert np.diff(profiles.z[p_profile > 0]) == pytest.approx(10.0)


def test_bad_input():
    frame = Frame.from_ase(Atoms("OH2", [[0, 0, 0], [0, 0, 1], [0, 1, 0]]))
    with pytest.raises(ValueError, match="profiles need a box"):
        LayerAnalysis().add(frame)
    with pytest.raises(ValueError, match="normal must be"):
        LayerAnalysis(normal=3)
    with pytest.raises(ValueError, match="has no Na"):
        DepositionAnalysis().add(frame)
    with pytest.raises(ValueError, match="must rise"):
        DepositionAnalysis(anode_range=(3.0, 1.0))
