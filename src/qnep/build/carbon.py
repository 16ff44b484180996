"""Carbon anodes: graphite with the basal plane or the edge towards the electrolyte, and slit pores."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from qnep.build.crystals import trim

# Graphite at room temperature: Trucano and Chen, Nature 258, 136 (1975), doi:10.1038/258136a0
LATTICE_CONSTANT = 2.4617  # Å
LAYER_SPACING = 3.3539  # Å
CH_BOND = 1.09  # Å


def graphite_basal(n_layers: int, width: float = 0.0) -> Atoms:
    """Return an AB stack of graphene layers, normal along z; one layer is graphene.

    Parameters
    ----------
    n_layers : at least one.
    width : Å, smallest extent along x and y.
    """
    _check_layers(n_layers)
    stack = _sheet().repeat((*_counts(_sheet().cell.lengths()[:2], width), 1))
    layers = []
    for k in range(n_layers):
        layer = stack.copy()
        # B layers are shifted by one bond.
        layer.positions += [0.0, (k % 2) * LATTICE_CONSTANT / np.sqrt(3), k * LAYER_SPACING]
        layers.append(layer)
    return _joined(layers, stack.cell.lengths()[:2])


def graphite_edge(n_layers: int, height: float, width: float = 0.0) -> Atoms:
    """Return graphite with zigzag edges, closed by hydrogen, towards +z and -z; layers are stacked along y.

    Parameters
    ----------
    n_layers : stacked along y; even, so that AB stacking is periodic.
    height : Å, of the sheets along z.
    width : Å, smallest extent along x.
    """
    _check_layers(n_layers)
    if n_layers % 2:
        raise ValueError(f"AB stacking needs an even number of layers, got {n_layers}")
    return _upright(n_layers, height, width, n_layers * LAYER_SPACING)


def slit_pore(pore_width: float, n_layers: int, height: float, width: float = 0.0) -> Atoms:
    """Return a wall of upright graphene sheets and a slit beside it, open towards +z and -z: a simple hard carbon.

    Parameters
    ----------
    pore_width : Å, between the carbon planes that face the slit; at least the layer spacing.
    n_layers : of the wall.
    height, width : Å, of the sheets along z and the cell along x.
    """
    _check_layers(n_layers)
    if not pore_width >= LAYER_SPACING:
        raise ValueError(
            f"a pore is at least one layer spacing ({LAYER_SPACING} Å) wide, got {pore_width:g} Å"
        )
    return _upright(n_layers, height, width, (n_layers - 1) * LAYER_SPACING + pore_width)


def _upright(n_layers: int, height: float, width: float, length_y: float) -> Atoms:
    """Sheets in the xz plane, stacked along y with AB shifts along z, edges closed by H."""
    sheet = _sheet()
    n_x, n_z = (
        _counts(sheet.cell.lengths()[:1], width)[0],
        _counts(sheet.cell.lengths()[1:2], height)[0],
    )
    sheet = _close_edges(sheet.repeat((n_x, n_z, 1)))
    layers = []
    for k in range(n_layers):
        layer = sheet.copy()
        x, z, _ = sheet.positions.T
        shift = (k % 2) * LATTICE_CONSTANT / np.sqrt(3)
        layer.positions = np.column_stack([x, np.full(len(x), k * LAYER_SPACING), z + shift])
        layers.append(layer)
    return _joined(layers, np.array([sheet.cell.lengths()[0], length_y]))


def _sheet() -> Atoms:
    """Rectangular cell of graphene in the xy plane: zigzag along x, armchair along y."""
    bond = LATTICE_CONSTANT / np.sqrt(3)
    half = LATTICE_CONSTANT / 2
    positions = [[0, 0, 0], [half, bond / 2, 0], [half, 1.5 * bond, 0], [0, 2 * bond, 0]]
    return Atoms("C4", positions, cell=[LATTICE_CONSTANT, 3 * bond, 1.0], pbc=(True, True, False))


def _close_edges(sheet: Atoms) -> Atoms:
    """Add H to the carbon atoms that have two neighbours once the sheet is cut across y."""
    y = sheet.positions[:, 1]
    bottom, top = y.min(), y.max()
    closed = sheet.copy()
    for edge, direction in ((bottom, -1.0), (top, 1.0)):
        ends = sheet.positions[np.abs(y - edge) < 0.1]
        closed += Atoms(f"H{len(ends)}", ends + [0.0, direction * CH_BOND, 0.0])
    return closed


def _joined(layers: list[Atoms], lengths: np.ndarray) -> Atoms:
    result = Atoms()
    for layer in layers:
        result += layer
    result.set_cell([lengths[0], lengths[1], 1.0])
    result.pbc = (True, True, False)
    result.wrap(pbc=(True, True, False))
    return trim(result)


def _counts(lengths: np.ndarray, width: float) -> tuple[int, ...]:
    return tuple(int(n) for n in np.maximum(np.ceil(width / lengths - 1e-9), 1))


def _check_layers(n_layers: int) -> None:
    if n_layers < 1:
        raise ValueError(f"at least one layer, got {n_layers}")
