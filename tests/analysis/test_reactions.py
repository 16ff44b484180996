"""Channels, rates, network, broken bonds and gases of the scripted trajectory."""

import networkx
import numpy as np
import pytest
from ase import Atoms
from scripted import INTERVAL_FS, Stage, embed
from test_species import EC, make_reactive_stage

from qnep.analysis import find_species
from qnep.analysis.reactions import (
    channels,
    cleavage_map,
    gas_shares,
    net_flows,
    reaction_network,
    solvents,
)


@pytest.fixture(scope="module")
def result():
    return find_species(make_reactive_stage().frames())


def test_channels_and_rates(result):
    """By hand: one C2H4 loss; 5 EC for 9 intervals, a trapezoid, then 4 for 29: 165.5 intervals."""
    found = {channel.equation: channel for channel in channels(result)}
    assert len(found) == 3
    loss = next(c for name, c in found.items() if name.startswith("EC →"))
    assert list(loss.times) == [10 * INTERVAL_FS]
    assert loss.rate == pytest.approx(1 / (39 * INTERVAL_FS / 1e6))
    assert loss.rate_constant == pytest.approx(1 / ((45 + 4.5 + 116) * INTERVAL_FS / 1e6))
    pair = found["2 CH₃ → C₂H₆"]
    exposure = (2 * 24 + 1 + 0) * INTERVAL_FS / 1e6  # N (N - 1) = 2; the last trapezoid from 2 to 0
    assert pair.rate_constant == pytest.approx(result.volume / exposure)


def test_network_can_be_written_and_read(result, tmp_path):
    graph = reaction_network(result)
    networkx.write_graphml(graph, tmp_path / "network.graphml")
    again = networkx.read_graphml(tmp_path / "network.graphml")
    assert again.number_of_edges() == 3 + 3 + 2  # 1→2, 1→2, (2 equal)→1
    reactions = [n for n, kind in again.nodes(data="kind") if kind == "reaction"]
    assert len(reactions) == 3


def test_flows_are_net(result):
    names = [one.name for one in result.species]
    flows = {(names[a], names[b]): n for (a, b), n in net_flows(result).items()}
    assert flows == {
        ("EC", "C₂H₄"): 1, ("EC", "CO₃²⁻"): 1, ("PF₆⁻", "PF₅"): 1, ("PF₆⁻", "F⁻"): 1, ("CH₃", "C₂H₆"): 1,
    }  # fmt: skip


def test_cleavage_map_of_ec(result):
    """C2H4 left: both CH2-O bonds of one EC; the bonds that came back do not count."""
    bonds = cleavage_map(result, "EC")
    assert [(b.name, len(b.bonds), b.first, b.total) for b in bonds] == [
        ("CH2–O (ring)", 2, 2, 2),
        ("CH2–CH2 (ring)", 1, 0, 0),
        ("CH2–H", 4, 0, 0),
        ("C–O (ring)", 2, 0, 0),
        ("C–O (terminal)", 1, 0, 0),
    ]
    assert solvents(result) == ["EC", "PF₆⁻"]


def test_later_breaks_count_for_the_molecule_of_the_first_frame():
    """O leaves an EC, then the rest loses C2H4: first map one bond, total map three."""
    stage = Stage(n_frames=40)
    ec = stage.place(embed(EC))
    stage.move(ec[0], 3.0 * (stage.atoms.positions[ec[0]] - stage.atoms.positions[ec[1]]), 10)
    ethylene, rest = ec[[3, 4, 6, 7, 8, 9]], ec[[0, 1, 2, 5]]
    away = stage.atoms.positions[ethylene].mean(axis=0) - stage.atoms.positions[rest].mean(axis=0)
    stage.move(ethylene, 3.0 * away / np.linalg.norm(away), 20)
    bonds = {b.name: b for b in cleavage_map(find_species(stage.frames()), "EC")}
    assert (bonds["C–O (terminal)"].first, bonds["C–O (terminal)"].total) == (1, 1)
    assert (bonds["CH2–O (ring)"].first, bonds["CH2–O (ring)"].total) == (0, 2)


def test_unknown_molecule_is_named(result):
    with pytest.raises(ValueError, match="no species 'DME' in this trajectory; there are"):
        cleavage_map(result, "DME")


def test_gas_fractions_beside_the_published(result):
    """Formed: C2H4, C2H6, PF5, one each; the figure of EC's gas chromatography stands beside C2H4."""
    gases = {gas.name: gas for gas in gas_shares(result)}
    assert gases["C₂H₄"].percent == pytest.approx(100 / 3)
    assert gases["C₂H₄"].published == 58.6
    assert gases["C₂H₆"].published is None


def test_gas_that_was_there_is_not_formed():
    stage = Stage(n_frames=3)
    stage.place(embed("C=C"))
    stage.place(Atoms("Na"))
    assert gas_shares(find_species(stage.frames())) == []
