"""Power of the whole Mac while the harness runs, by `powermetrics`, which the system gives to root only."""

from __future__ import annotations

import contextlib
import os
import plistlib
import subprocess
import sys
from collections.abc import Iterator
from xml.parsers.expat import ExpatError

from mobileclip_deploy.benchmark.result import PowerUse

COMMAND = ("/usr/bin/sudo", "--non-interactive", "/usr/bin/powermetrics")
"""As root it needs no password. Of other users sudo wants none for a while after `sudo -v`."""
PATIENCE = 5.0  # seconds
SAMPLERS = ("--samplers", "cpu_power,gpu_power,ane_power", "--sample-rate", "1000", "--format", "plist")
ENERGIES = ("cpu_energy", "gpu_energy", "ane_energy")


class PowerMeter:
    """Samples of `powermetrics`, one a second. Without the right to run it there are none.

    Its output is property lists with a NUL between them; `processor` has the energies of a sample in millijoules.
    """

    def __init__(self) -> None:
        self._output = b""
        self._pipe: int | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Runs `powermetrics` as long as the context lasts. `read` has to be called about once a second."""
        if sys.platform == "win32":  # where pipes cannot be read without waiting, and no Mac's harness runs
            yield
            return
        try:
            process = subprocess.Popen([*COMMAND, *SAMPLERS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            yield
            return
        assert process.stdout is not None
        self._pipe = process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        try:
            yield
        finally:
            self.read()
            self._pipe = None
            self._output += b"\0"  # of a sample that is cut off only what follows counts
            process.stdout.close()  # ends it at its next sample, for another user may not signal root's process
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=PATIENCE)
            if process.poll() is None:
                subprocess.run([*COMMAND[:-1], "/bin/kill", str(process.pid)], check=False, capture_output=True)

    def read(self) -> None:
        """Takes what has been printed: a full pipe would stop the sampling."""
        with contextlib.suppress(BlockingIOError):
            while self._pipe is not None and (part := os.read(self._pipe, 1 << 16)):
                self._output += part

    def use(self) -> PowerUse | None:
        """Returns the mean power over all samples. None if there is no sample, or a Mac without these counters."""
        nanoseconds, millijoules = 0, dict.fromkeys(ENERGIES, 0.0)
        for text in self._output.split(b"\0"):
            with contextlib.suppress(plistlib.InvalidFileException, ExpatError, ValueError, KeyError, TypeError):
                sample = plistlib.loads(text)
                energies = {name: float(sample["processor"][name]) for name in ENERGIES}
                nanoseconds += int(sample["elapsed_ns"])
                millijoules = {name: millijoules[name] + value for name, value in energies.items()}
        if nanoseconds <= 0:
            return None
        seconds = nanoseconds / 1e9
        cpu, gpu, neural = (round(value / seconds, 1) for value in millijoules.values())
        return PowerUse(
            seconds=round(seconds, 3), cpu_milliwatts=cpu, gpu_milliwatts=gpu, neural_engine_milliwatts=neural
        )
