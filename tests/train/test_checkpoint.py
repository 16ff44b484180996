import pickle

import numpy as np
import pytest

from qnep.train.checkpoint import CheckpointError, load_checkpoint, save_checkpoint


def test_round_trip(tmp_path):
    path = tmp_path / "checkpoint.npz"
    arrays = {"vector": np.arange(5, dtype=np.float32), "step": np.array(3)}
    meta = {"epoch": 2, "scores": [0.1, float("inf")]}
    save_checkpoint(path, arrays, meta)
    found, found_meta = load_checkpoint(path)
    assert found_meta == meta
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert [item.name for item in tmp_path.iterdir()] == ["checkpoint.npz"]


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("code of a checkpoint was executed",))


def test_pickled_code_is_refused(tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, meta=np.array([_Bomb()], dtype=object))
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path)


def test_cut_file_is_refused(tmp_path):
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, {"vector": np.zeros(1000)}, {})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(path)
