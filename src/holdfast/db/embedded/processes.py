"""Which running processes belong to a cluster's server. A process id alone proves nothing: the system gives it out again."""

import subprocess
from contextlib import suppress
from pathlib import Path

from holdfast.db.embedded.cluster import Cluster

_PROC = Path("/proc")


def belongs(pid: int, cluster: Cluster) -> bool:
    """Whether this is a living process of the cluster's server, proved by its command line or its working directory."""
    if _PROC.joinpath("self").exists():
        return _belongs_by_proc(pid, cluster)
    return pid in _by_ps(cluster)


def living(cluster: Cluster) -> list[int]:
    """List all processes of the cluster's server that can be seen from here."""
    if _PROC.joinpath("self").exists():
        pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
        return [pid for pid in pids if _belongs_by_proc(pid, cluster)]
    return _by_ps(cluster)


def _belongs_by_proc(pid: int, cluster: Cluster) -> bool:
    process = _PROC / str(pid)
    with suppress(OSError):
        if (process / "comm").read_bytes().strip() != b"postgres":
            return False
        command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if _names(command, cluster):
            return True
        # A server started by hand has no such name. Without the right to trace others (root in a container) this is closed.
        standing = (process / "cwd").stat()
        return (standing.st_dev, standing.st_ino) == (cluster.device, cluster.inode)
    return False


def _by_ps(cluster: Cluster) -> list[int]:
    """List the same without /proc (macOS)."""
    done = subprocess.run(["/bin/ps", "-axww", "-o", "pid=,command="], stdout=subprocess.PIPE, check=False)
    listed = (line.split(None, 1) for line in done.stdout.decode(errors="replace").splitlines())
    return [int(pid) for pid, command in (row for row in listed if len(row) > 1) if _names(command, cluster)]


def _names(command: str, cluster: Cluster) -> bool:
    """Look for the name: the postmaster carries it as an argument, its children in the title that they give themselves."""
    return f"cluster_name={cluster.tag} " in f"{command} " or command.startswith(f"postgres: {cluster.tag}:")
