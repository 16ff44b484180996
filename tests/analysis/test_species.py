"""Species and reactions of scripted trajectories are found exactly: no ghosts, nothing missed."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scripted import INTERVAL_FS, Stage, embed, pf6

from qnep.analysis import Frame, find_species
from qnep.analysis.bond_cutoffs import BondCutoffs, parse_bond_option

EC = "O=C1OCCO1"  # embed() keeps this order: O0 C1 O2 C3 C4 O5, then H


def equation(result, reaction):
    """Names of reactants and products."""
    names = [one.name for one in result.species]
    return sorted(names[k] for k in reaction.reactants), sorted(names[k] for k in reaction.products)


def make_reactive_stage(**kwargs):
    """EC loses C2H4, PF6- loses F-, two CH3 make C2H6; two bonds stretch for 20 fs and come back."""
    stage = Stage(n_frames=40, **kwargs)
    for _ in range(3):
        stage.place(embed(EC))
    ec, salt = stage.place(embed(EC)), stage.place(pf6())
    ethylene, rest = ec[[3, 4, 6, 7, 8, 9]], ec[[0, 1, 2, 5]]
    away = stage.atoms.positions[ethylene].mean(axis=0) - stage.atoms.positions[rest].mean(axis=0)
    stage.move(ethylene, 3.0 * away / np.linalg.norm(away), 10)
    stage.move(salt[1], [1.5, 0.0, 0.0], 17)
    ethane = stage.place(embed("CC"))  # two methyls until frame 25
    axis = stage.atoms.positions[ethane[1]] - stage.atoms.positions[ethane[0]]
    stage.move(ethane[[1, 5, 6, 7]], 2.0 * axis, 0, until=25)
    flicker = stage.place(embed(EC))
    stage.move(flicker[6], [0.0, 3.0, 3.0], 12, until=14)  # H away for 20 fs
    stage.move(flicker[0], [0.0, 0.0, 3.0], 30, until=32)  # O away for 20 fs
    sodium = [stage.place(Atoms("Na")) for _ in range(2)]
    stage.atoms.set_initial_charges(np.where(stage.atoms.symbols == "Na", 0.9, 0.0))
    stage.move(
        sodium[0], stage.atoms.positions[0] - stage.atoms.positions[sodium[0][0]] + [0, 0, 2.3], 5
    )
    return stage


@pytest.mark.parametrize("seed", range(4))
def test_reactions_are_recovered_exactly(seed):
    result = find_species(make_reactive_stage(seed=seed).frames())
    found = [(r.frame, *equation(result, r)) for r in result.reactions]
    assert found == [
        (10, ["EC"], ["CO₃²⁻", "C₂H₄"]),
        (17, ["PF₆⁻"], ["F⁻", "PF₅"]),
        (25, ["CH₃", "CH₃"], ["C₂H₆"]),
    ]
    assert list(result.count("EC")) == [5] * 10 + [4] * 30
    assert list(result.count("C₂H₄")) == [0] * 10 + [1] * 30
    assert list(result.count("CH₃")) == [2] * 25 + [0] * 15
    assert list(result.count("Na⁺")) == [2] * 40
    assert result.times[-1] == 39 * INTERVAL_FS


def test_without_a_lifetime_recrossings_are_seen():
    """The rule does the work: at lifetime 0 the two stretched bonds leave and come back."""
    result = find_species(make_reactive_stage().frames(), min_lifetime_fs=0.0)
    assert [r.frame for r in result.reactions] == [10, 12, 14, 17, 25, 30, 32]


@pytest.mark.parametrize(("lifetime_fs", "n_events"), [(20.0, 0), (10.0, 2), (15.0, 0)])
def test_lifetime_is_the_time_between_first_and_last_sight(lifetime_fs, n_events):
    """An O that is away in frames 10 and 11 was seen away for 10 fs, not for 15 or 20."""
    stage = Stage(n_frames=20)
    molecule = stage.place(embed(EC))
    stage.move(molecule[0], [0.0, 0.0, 3.0], 10, until=12)
    assert len(find_species(stage.frames(), min_lifetime_fs=lifetime_fs).reactions) == n_events


def test_change_at_the_end_does_not_count():
    """What happens in the last 50 fs cannot be shown to last, but its frames are counted."""
    stage = Stage(n_frames=20)
    molecule = stage.place(embed(EC))
    stage.move(molecule[0], [0.0, 0.0, 3.0], 17)
    result = find_species(stage.frames())
    assert result.reactions == []
    assert list(result.count("EC")) == [1] * 20


def test_broken_bonds_know_their_place():
    """Both ring O-CH2 bonds of EC are one kind by symmetry, and belong to an EC of the first frame."""
    result = find_species(make_reactive_stage().frames())
    bonds = [b for b in result.broken_bonds if result.species[b.parent].name == "EC"]
    assert len(bonds) == 2
    assert len({b.parent_colors for b in bonds}) == 1
    assert {result.species[b.origin].name for b in bonds} == {"EC"}


def test_species_do_not_depend_on_the_order_of_atoms():
    """Permuted, rotated, moved across the faces: the same labels."""
    stage = make_reactive_stage()
    (frame,) = list(stage.frames())[:1]
    order = np.random.default_rng(4).permutation(frame.n_atoms)
    shifted = Frame(
        positions=frame.positions[order] + [40.0, -77.0, 3.0],
        numbers=frame.numbers[order],
        cell=frame.cell,
        pbc=frame.pbc,
        charges=frame.charges[order],
    )
    results = [find_species([frame]), find_species([shifted])]
    counts = [dict(zip((s.label for s in r.species), r.counts[0].tolist())) for r in results]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            "C1CCC2CCCCC2C1",
            "C1CCC(C1)C1CCCC1",
        ),  # decalin, bicyclopentyl: equal under plain refinement
        ("C1CC1.C1CC1", "C1CCCCC1"),
        ("CCCCCC", "CC(C)CCC"),
        ("COCCOC", "CCOCOC"),
        ("COCCO", "CCOCO"),
    ],
)
def test_isomers_are_told_apart(first, second):
    stage = Stage(n_frames=1, sigma=0.0)
    for smiles in (*first.split("."), second):
        stage.place(embed(smiles))
    result = find_species(stage.frames())
    assert len(result.species) == 2
    assert len({one.label for one in result.species}) == 2


def test_metal_and_ions_are_told_apart():
    """54 Na of a bcc crystal, 8 Na+ of NaF, and the mean charges of each."""
    metal = bulk("Na", "bcc", a=4.22, cubic=True).repeat(3)
    salt = bulk("NaF", "rocksalt", a=4.63, cubic=True).repeat((2, 1, 1))
    salt.set_initial_charges(np.where(salt.symbols == "Na", 0.9, -0.9))
    for atoms, n_metal, n_ion in ((metal, 54, 0), (salt, 0, 8)):
        result = find_species([Frame.from_ase(atoms)])
        assert result.count("Na metal")[0] == n_metal
        assert result.count("Na⁺")[0] == n_ion
    assert result.charges[result.index("F⁻")] == pytest.approx(-0.9)
    assert result.charges[result.index("Na⁺")] == pytest.approx(0.9)


def test_molecule_through_a_small_triclinic_cell():
    """An infinite C chain through a cell shorter than its bonds' doubles is one molecule, with no self-bond."""
    frame = Frame(
        positions=np.array([[0.0, 0.0, 0.0], [1.3, 0.0, 0.0]]),
        numbers=np.array([6, 6]),
        cell=np.array([[2.6, 0.0, 0.0], [1.0, 9.0, 0.0], [2.0, 1.0, 9.0]]),
        pbc=np.ones(3, dtype=bool),
    )
    result = find_species([frame])
    assert [one.formula for one in result.species] == ["C2"]


def test_growing_cell_is_followed():
    """Positions and cell scale together by 3 %: no bond breaks, the count stays."""
    frames = [
        Frame(f.positions * s, f.numbers, f.cell * s, f.pbc, index=k, time_fs=10.0 * k)
        for k, (f, s) in enumerate(
            zip(make_ec_stage().frames(), np.linspace(1.0, 1.03, 10), strict=True)
        )
    ]
    result = find_species(frames)
    assert result.reactions == []
    assert list(result.count("EC")) == [4] * 10


def make_ec_stage():
    stage = Stage(n_frames=10)
    for _ in range(4):
        stage.place(embed(EC))
    return stage


def test_unknown_pair_is_named_with_the_way_to_give_it():
    frame = Frame.from_ase(Atoms("CBr", [[0, 0, 0], [0, 0, 1.94]], cell=[9, 9, 9], pbc=True))
    with pytest.raises(ValueError, match=r"pairs Br-C, Br-Br: .*--bond Br-C=FORM:BREAK"):
        find_species([frame])
    pairs = dict(map(parse_bond_option, ("C-Br=2.3:2.7", "Br-Br=2.6:3.0")))
    result = find_species([frame], BondCutoffs(pairs))
    assert [one.formula for one in result.species] == ["CBr"]


@pytest.mark.parametrize("text", ["C-Cl", "C-Cl=2", "C-Cl=3:2", "C-Q=1:2", "C=1:2", "C-H=0:1"])
def test_bad_bond_options(text):
    with pytest.raises(ValueError, match=r"wanted|pair of elements"):
        BondCutoffs(dict([parse_bond_option(text)]))


def test_no_frame_and_times_that_stand_still():
    with pytest.raises(ValueError, match="no frame"):
        find_species([])
    frame = next(make_ec_stage().frames())
    with pytest.raises(ValueError, match="times must increase"):
        find_species([frame, frame])


@pytest.mark.parametrize(
    ("config_type", "expected"),
    [
        ("na_slab", {"Na metal": 16}),
        ("na_liquid_like", {"Na metal": 16}),
        ("na2o_bulk", {"Na⁺": 8, "O²⁻": 4}),
        ("na2co3_bulk", {"Na⁺": 8, "CO₃²⁻": 4}),
        ("naf_slab", {"Na⁺": 16, "F⁻": 16}),
        ("molecule_napf6", {"Na⁺": 1, "PF₆⁻": 1}),
        ("liquid_ec_napf6", {"EC": 3, "Na⁺": 1, "PF₆⁻": 1}),
        ("liquid_dme", {"DME": 3}),
        ("iface_dme", {"DME": 2, "Na metal": 16}),
        ("iface_ec_napf6", {"EC": 2, "Na⁺": 1, "PF₆⁻": 1, "Na metal": 16}),
    ],
)
def test_species_of_ab_initio_structures(shared_data, config_type, expected):
    """What the builder of these DFT structures put in is what is found (their README names it)."""
    from ase.io import read

    images = read(shared_data / "dft_seed" / "seed.extxyz", ":")
    chosen = [atoms for atoms in images if atoms.info["config_type"] == config_type]
    assert chosen
    for atoms in chosen:
        result = find_species([Frame.from_ase(atoms)])
        names = result.display_names()
        assert {n: int(c) for n, c in zip(names, result.counts[0]) if c} == expected
