"""Files that are whole whenever somebody looks at them, that one process at a time writes, or only one user made."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import hmac
import os
import secrets
from pathlib import Path

_DIGEST_SIZE = hashlib.sha256().digest_size
_KEY_SIZE = 32


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file by new content, text as UTF-8; a reader, or a kill at any moment, sees the old or the new one."""
    temporary = path.with_name(path.name + f".{os.getpid()}.part")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


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
