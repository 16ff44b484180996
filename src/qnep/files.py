"""Files that are whole whenever somebody looks at them, that one process at a time writes, or only one user made."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DIGEST_SIZE = hashlib.sha256().digest_size
_KEY_SIZE = 32


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file by new content, text as UTF-8; a reader, or a kill at any moment, sees the old or the new one."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a file to write, which takes the place of `path` when it is whole, or goes after an error."""
    temporary = path.with_name(path.name + f".{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_replaceable(path: Path) -> None:
    """Raise ValueError, with one sentence, where no file can be written: for a look before long work.

    What is no regular file (a folder, a device, a pipe) is refused, because it would be replaced by one.
    """
    if path.is_dir():
        raise ValueError(f"{path}: wanted the name of a file, got a folder")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: wanted the name of a file, got a device or a pipe")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"{path}: the folder {path.parent} cannot be written to")


def check_creatable(path: Path) -> None:
    """As `check_replaceable`, for a file whose folder may be absent, since it is made then."""
    folder = path.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"{path}: wanted a folder to write to, but {folder} is none")
    check_replaceable(folder / path.relative_to(folder).parts[0])


def take_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock of a file, made where it is absent; None if another one holds it.

    The lock ends when the descriptor is closed, and so with the process.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def sign(content: bytes) -> bytes:
    """Return content behind a signature with which `verify` knows it again: only for this user on this machine."""
    return hmac.digest(_user_key(), content, "sha256") + content


def verify(signed: bytes) -> bytes | None:
    """Return the content that `sign` was given, or None if it was not this user who signed it."""
    digest, content = signed[:_DIGEST_SIZE], signed[_DIGEST_SIZE:]
    is_own = hmac.compare_digest(digest, hmac.digest(_user_key(), content, "sha256"))
    return content if is_own else None


def _user_key() -> bytes:
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return _key_of(Path(cache_home) / "qnep" / "signing.key")


@functools.cache
def _key_of(path: Path) -> bytes:
    """A secret of this user, drawn when it is first needed; where it cannot be kept, one of this process."""
    try:
        if path.exists() and len(key := path.read_bytes()) == _KEY_SIZE:
            return key
        key = secrets.token_bytes(_KEY_SIZE)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        write_atomically(path, key)
        path.chmod(0o600)
    except OSError:
        key = secrets.token_bytes(_KEY_SIZE)
    return key
