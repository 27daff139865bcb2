"""Which OS user runs the server, and what that user can reach. PostgreSQL refuses to run as root."""

import os
import pwd
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_FALLBACK = 65534  # what Linux calls nobody, should the system have no users' list at all


@dataclass(frozen=True, slots=True)
class Account:
    """The OS user and group of the server's processes."""

    uid: int
    gid: int

    @property
    def is_another(self) -> bool:
        """Whether this process must change to it; only root can."""
        return self.uid != os.geteuid()

    @property
    def user(self) -> int | None:
        """For subprocess: None keeps the present user."""
        return self.uid if self.is_another else None

    @property
    def group(self) -> int | None:
        """For subprocess: None keeps the present group."""
        return self.gid if self.is_another else None

    @property
    def extra_groups(self) -> list[int] | None:
        """For subprocess: root's further groups are dropped with root."""
        return [] if self.is_another else None

    def reaches(self, path: Path) -> bool:
        """Whether the plain mode bits let this user read the file and pass through every folder above it.

        An access list is not looked at: where one opens what the bits close, the caller only takes the longer way.
        """
        resolved = path.resolve()
        return self._may(resolved, stat.S_IROTH) and all(self._may(folder, stat.S_IXOTH) for folder in resolved.parents)

    def _may(self, path: Path, bit: int) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        if status.st_uid == self.uid:
            return bool(status.st_mode & (bit << 6))
        if status.st_gid == self.gid:
            return bool(status.st_mode & (bit << 3))
        return bool(status.st_mode & bit)


def for_folder(home: Path) -> Account:
    """Choose the user that runs the server whose files lie in ``home`` (which exists).

    An ordinary user runs it himself. For root it is the owner of the data, else of the folder, so that both can serve the
    same data one after the other, or nobody when all is root's own.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    for path in (home / "cluster", home):
        with suppress(FileNotFoundError):
            owner = path.lstat()
            if owner.st_uid != 0:
                return Account(owner.st_uid, owner.st_gid)
    return _nobody()


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        # initdb wants a uid that has a name, so any other user without rights is better than a bare number.
        others = [user for user in pwd.getpwall() if user.pw_uid]
        if not others:
            return Account(_FALLBACK, _FALLBACK)
        entry = max(others, key=lambda user: user.pw_uid)
    return Account(entry.pw_uid, entry.pw_gid)
