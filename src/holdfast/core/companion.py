"""A process beside ours, for as long as we live: started again where it dies, and gone with us, even where we are killed."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

import structlog

#: Seconds from a death to the next start: the first, and the most, where it dies again and again.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
#: Seconds of life after which a death is the first one again.
_HEALTHY_SECONDS = 30.0
#: Seconds that it has for ending in order.
_PATIENCE_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Companion:
    """Runs a command whose standard input says whether we live: at its end, which our death brings about, it must end.

    `on_early_death` is called with the id of a process that did not live for long.
    """

    def __init__(self, name: str, command: Sequence[str], *, on_early_death: Callable[[int], None] = lambda _pid: None) -> None:
        self._name, self._command, self._on_early_death = name, list(command), on_early_death
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self._keeper = threading.Thread(target=self._keep, name=name, daemon=True)

    def start(self) -> None:
        """Start it, and return at once."""
        self._keeper.start()

    def stop(self) -> None:
        """Tell it to end, and wait until it has; who takes too long is killed."""
        with self._starting:
            self._stopping.set()
            process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self._keeper.join()

    def _keep(self) -> None:
        # What a terminal sends to all of its processes is ours to act upon, in our order. A child keeps its starter's mask.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            code: int | str | None
            try:
                code = self._run_once()
            except OSError as error:
                # Too many processes, or too little memory, for now.
                code = str(error)
            if self._stopping.is_set():
                return
            if code == 0:
                # It was told to end: perhaps all of us are (systemd tells each), and only it has heard so far.
                pause = LONGEST_PAUSE
            elif time.monotonic() - began > _HEALTHY_SECONDS:
                pause = FIRST_PAUSE
            log.warning("companion.died", name=self._name, code=code, again_after=pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _run_once(self) -> int | None:
        with self._starting:
            if self._stopping.is_set():
                return None
            began = time.monotonic()
            process = self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE)  # noqa: S603 - our own words
        # Closes its standard input behind it.
        with process:
            code = process.wait()
        if code != 0 and time.monotonic() - began <= _HEALTHY_SECONDS:
            self._on_early_death(process.pid)
        return code
