"""`holdfast verify` on a service and a database of its own, gone afterwards: nothing of yours is written to.

All options are those of the command: python loadtest/verify.py --clients 50 --operations 5000
"""

import subprocess
import sys
from contextlib import ExitStack

import processes
import reference_load


def main() -> int:
    """Start, verify, end; the command's exit code."""
    options = sys.argv[1:]
    if {"--help", "--history"} & {option.partition("=")[0] for option in options}:
        # Both need no service.
        return subprocess.call([*processes.COMMAND, "verify", *options])
    with ExitStack() as stack:
        on = stack.enter_context(reference_load.server())
        url = stack.enter_context(reference_load.empty(on, "holdfast_load_verify"))
        service = stack.enter_context(processes.holdfast(url))
        return subprocess.call([*processes.COMMAND, "verify", "--url", service.url, *options])


if __name__ == "__main__":
    sys.exit(main())
