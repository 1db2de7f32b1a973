"""Power of the whole Mac while the harness runs, by `powermetrics`, which the system gives to root only."""

import contextlib
import plistlib
import subprocess
import tempfile
from collections.abc import Iterator
from xml.parsers.expat import ExpatError

from mobileclip_deploy.benchmark.result import PowerUse

COMMAND = ("/usr/bin/sudo", "--non-interactive", "/usr/bin/powermetrics")
"""As root it needs no password. Of other users sudo wants none for a while after `sudo -v`."""
PATIENCE = 5.0  # seconds
SAMPLERS = ("--samplers", "cpu_power,gpu_power,ane_power", "--sample-rate", "1000", "--format", "plist")
ENERGIES = ("cpu_energy", "gpu_energy", "ane_energy")


class PowerMeter:
    """Sums of `powermetrics`' samples, one a second. Without the right to run it there are none.

    Its output is property lists with a NUL between them; `processor` has the energies of a sample in millijoules.
    """

    def __init__(self) -> None:
        self.nanoseconds, self.millijoules = 0, dict.fromkeys(ENERGIES, 0.0)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Runs `powermetrics` as long as the context lasts, and adds its samples at the end: nothing of this process
        disturbs what is measured."""
        try:
            sampler = subprocess.Popen([*COMMAND, *SAMPLERS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            yield
            return
        assert sampler.stdout is not None
        with tempfile.TemporaryFile() as output:
            copier = subprocess.Popen(["cat"], stdin=sampler.stdout, stdout=output)
            sampler.stdout.close()
            try:
                yield
            finally:
                # Another user may not signal root's process: without a reader it ends at its next sample.
                copier.kill()
                copier.wait()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    sampler.wait(timeout=PATIENCE)
                if sampler.poll() is None:
                    subprocess.run([*COMMAND[:-1], "/bin/kill", str(sampler.pid)], check=False, capture_output=True)
                output.seek(0)
                self._add(output.read())

    def _add(self, output: bytes) -> None:
        """Adds the samples of an output; its last one may be cut off."""
        for text in output.split(b"\0"):
            with contextlib.suppress(ExpatError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
                sample = plistlib.loads(text)
                energies = {name: float(sample["processor"][name]) for name in ENERGIES}
                self.nanoseconds += int(sample["elapsed_ns"])
                self.millijoules = {name: self.millijoules[name] + value for name, value in energies.items()}

    def use(self) -> PowerUse | None:
        """Returns the mean power over all samples. None if there is no sample, or a Mac without these counters."""
        if self.nanoseconds <= 0:
            return None
        seconds = self.nanoseconds / 1e9
        cpu, gpu, neural = (round(value / seconds, 1) for value in self.millijoules.values())
        return PowerUse(
            seconds=round(seconds, 3), cpu_milliwatts=cpu, gpu_milliwatts=gpu, neural_engine_milliwatts=neural
        )
