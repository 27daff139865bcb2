"""File locks (flock): they end with the process that holds them, however it ends, and work across containers of one machine."""

import fcntl
import os
import time
from pathlib import Path
from typing import Self
from weakref import WeakSet

_PAUSE = 0.005  # seconds between two tries


class LockFile:
    """One open lock file. Two of them never share a lock, not even in one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = open_private(path, os.O_RDWR | os.O_CREAT)
        _opened.add(self)

    @property
    def fd(self) -> int:
        """The file's number, to be inherited by a process that shall hold the lock as well."""
        if self._fd is None:
            raise ValueError(f"{self.path} is closed")
        return self._fd

    @property
    def is_open(self) -> bool:
        """False after close(), and in a forked child."""
        return self._fd is not None

    @property
    def is_current(self) -> bool:
        """False when the path has been deleted, or leads to another file by now: then the lock protects nothing."""
        try:
            return os.path.samestat(os.fstat(self.fd), self.path.lstat())
        except FileNotFoundError:
            return False

    def acquire(self, *, shared: bool = False, seconds: float = 0.0) -> bool:
        """Lock it, or turn the kind of lock round; False when others kept it for all that time."""
        deadline = time.monotonic() + seconds
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        while True:
            try:
                fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_PAUSE)
            else:
                return True

    def close(self) -> None:
        """Release this process's hold; a process that inherited the file keeps its own."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_opened: WeakSet[LockFile] = WeakSet()


def _forget_in_child() -> None:
    """Drop the locks in a forked child, which would otherwise hold its parent's locks for as long as it lives."""
    for lock in list(_opened):
        lock.close()


os.register_at_fork(after_in_child=_forget_in_child)


def open_private(path: Path, flags: int) -> int:
    """Open a file of ours, readable by its owner only; never through a symbolic link, which somebody else may have laid.

    Root working in an ordinary user's folder gives the file to the folder's owner, so that he can go on without root.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0 and flags & os.O_CREAT:
            owner = path.parent.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)
    except BaseException:
        os.close(fd)
        raise
    return fd
