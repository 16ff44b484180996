"""Files written whole, and signatures that only their writer can make."""

import os
import stat

import pytest

from qnep import files


def test_a_failed_write_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    files.write_atomically(path, "α")
    assert path.read_bytes() == "α".encode()
    with pytest.raises(TypeError):
        files.write_atomically(path, 5)
    assert path.read_bytes() == "α".encode()


def test_a_failed_write_leaves_nothing_else(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(RuntimeError, match="half"), files.replacing(path) as temporary:
        temporary.write_text("α")
        raise RuntimeError("half of it")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, text in (
        (".", "got a folder"),
        ("pipe", "got a device or a pipe"),
        ("no/file", "there is no folder"),
    ):
        with pytest.raises(ValueError, match=text):
            files.check_replaceable(tmp_path / name)
    files.check_replaceable(tmp_path / "new")


def test_signature(tmp_path, monkeypatch):
    """Known again by the same user, also by a later process; not after a change, nor by another user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a"))
    signed = files.sign(b"content")
    files._key_of.cache_clear()
    assert files.verify(signed) == b"content"
    assert files.verify(signed[:-1] + b"x") is None
    assert files.verify(b"") is None
    assert stat.S_IMODE((tmp_path / "a" / "qnep" / "signing.key").stat().st_mode) == 0o600
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert files.verify(signed) is None


def test_signature_without_a_place_for_the_key(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert files.verify(files.sign(b"content")) == b"content"
