"""What the tables of a batch take."""

from dataclasses import replace

import numpy as np
import pytest

from qnep.train.batch import BatchBuilder, estimate_memory
from qnep.train.settings import ModelSettings


def crystal(make_frames, n_cells: int, with_virial: bool):
    """Return n_cells³ atoms on a cubic lattice of 2.5 Å, so that all densities are those of the estimate."""
    points = np.stack(np.meshgrid(*[np.arange(n_cells)] * 3), axis=-1).reshape(-1, 3)
    (frame,) = make_frames(1, n_atoms=1)
    n_atoms = len(points)
    return replace(
        frame,
        types=np.arange(n_atoms) % 2,
        positions=2.5 * points,
        cell=2.5 * n_cells * np.eye(3),
        forces=np.zeros((n_atoms, 3)),
        virial=np.zeros((3, 3)) if with_virial else None,
    )


@pytest.mark.parametrize("charge_mode", [0, 2])
@pytest.mark.parametrize("virial_of", ["all", "one", "none"])
def test_estimate_of_batches_of_unequal_structures(make_frames, charge_mode, virial_of):
    """Coulomb matrices are padded to the largest structure of the batch, and all are made if one has a virial."""
    large = crystal(make_frames, 5, virial_of == "all")
    small = [crystal(make_frames, 2, virial_of != "none" and k == 0) for k in range(9)]
    groups = [[large, *small[:7]], small[7:]]
    model = ModelSettings(("O", "H"), charge_mode=charge_mode, cutoff=(4.0, 3.0)).make_model()
    builder = BatchBuilder(model)
    needed = sum(builder.build(group, list(range(len(group)))).memory() for group in groups)
    # Shells of the lattice against its mean density: a third at these cutoffs; padding was wrong by factors.
    assert estimate_memory(model, groups, "single") == pytest.approx(needed, rel=0.3)


def test_an_empty_share_of_a_batch_takes_nothing(make_frames):
    model = ModelSettings(("O", "H"), charge_mode=2, cutoff=(4.0, 3.0)).make_model()
    frames = make_frames(2)
    assert estimate_memory(model, [frames, []], "single") == estimate_memory(
        model, [frames], "single"
    )
