"""A stand-in for phones: the real adb daemon in a namespace of its own, with scripted getprop, dumpsys and the like.

Nothing leaves the namespace: the daemons listen on its loopback alone, the adb server lives there too, and all of it
dies with the namespace's first process. Runs as root, or as a user who may create user namespaces.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from programs import script

FIRST_PORT = 16001
PATIENCE_SECONDS = 60
PROPERTIES = {
    "ro.product.manufacturer": "Stand-in",
    "ro.product.model": "Phone 1",
    "ro.product.cpu.abi": "x86_64",
    "ro.soc.manufacturer": "Nobody",
    "ro.soc.model": "N1",
    "ro.build.version.release": "16",
    "ro.build.fingerprint": "standin/phone/phone:16/TEST/1:user/release-keys",
}
ARM_PROGRAMS = (
    r":arm:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64:"
)
"""For the kernel's binfmt_misc: what starts as an ELF program for this machine does is started by qemu."""
ADDRESSES = "0x8000000000"
"""39 bits, as much as many phones' kernels give a process: the last is 0x7fffffffff. qemu takes the size."""
THERMAL = """IsStatusOverride: false
ThermalEventListeners:
Thermal Status: {status}
Cached temperatures:
	Temperature{{mValue=99.0, mType=3, mName=skin, mStatus=0}}
HAL Ready: true
Current temperatures from HAL:
	Temperature{{mValue=41.5, mType=0, mName=cpu0, mStatus=0}}
	Temperature{{mValue=36.5, mType=3, mName=skin, mStatus=0}}
Current cooling devices from HAL:
"""
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  status: 2
  level: 83
  scale: 100
  voltage: 4123
  Charge counter: 3120000
  temperature: 297
"""
MAXIMUM_KHZ = {0: 1_800_000, 1: 2_900_000}
"""Highest frequencies of this computer's cores, as the phones see them: two kinds."""


@dataclass
class Phones:
    """One or more stand-ins in one namespace, on one adb server, as if on one computer's USB ports.

    Args:
        folder: of the test; the programs for PATH and the phones' storage are below it.
        count: how many phones.
        storage_megabytes: size of the phones' storage (all of `storage`); None: the computer's.
        arm: the phones start programs for 64-bit ARM, by qemu, and say that they are such a machine.
        own_shell: the phones have Android's shell, mksh, and Android's programs, toybox, in the place of Debian's.
    """

    folder: Path
    count: int = 1
    storage_megabytes: int | None = None
    arm: bool = False
    own_shell: bool = False
    storage: Path = field(init=False)
    _first: subprocess.Popen[bytes] = field(init=False)
    _daemons: dict[int, subprocess.Popen[bytes]] = field(init=False, default_factory=dict)

    def __enter__(self) -> Phones:
        # A name that would do harm in a shell that saw it unquoted.
        self.storage = self.folder / 'it\'s $(touch pwned) `touch pwned` "data" & touch pwned'
        self.storage.mkdir(parents=True)
        for name in ("bin", "home", "tmp"):
            (self.folder / name).mkdir()
        for core, khz in MAXIMUM_KHZ.items():
            for clock in ("cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq"):
                self.set_clock(core, clock, khz)
        for name in ("possible", "present", "online"):
            (self.folder / "cpu" / name).write_text("0-1\n")
        mounts = [f"mount --bind {shlex.quote(str(self.folder / 'cpu'))} /sys/devices/system/cpu"]
        if self.storage_megabytes:
            size = f"size={self.storage_megabytes}m"
            mounts.append(f"mount -t tmpfs -o {size} none {shlex.quote(str(self.storage))}")
        if self.own_shell:
            mounts.append(f"mount --bind {shutil.which('mksh')} {os.path.realpath('/bin/sh')}")
        if self.arm:
            mounts.append("mount -t binfmt_misc none /proc/sys/fs/binfmt_misc")
            mounts.append(f"printf %s {shlex.quote(ARM_PROGRAMS)} >/proc/sys/fs/binfmt_misc/register")
        script = " && ".join([*mounts, "ip link set lo up && echo ready && exec sleep infinity"])
        user = ["--map-root-user"] if self._has_users else []
        command = ["unshare", *user, "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c", script]
        self._first = subprocess.Popen(command, stdout=subprocess.PIPE)
        if self._first.stdout.readline() != b"ready\n":
            raise RuntimeError("no namespace for the stand-in phones: run as root, or allow user namespaces")
        self._write_adb()
        for number in range(self.count):
            self._write_programs(number)
            self.connect(number)
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._inner(), signal.SIGKILL)
        self._first.wait(PATIENCE_SECONDS)
        for daemon in self._daemons.values():
            daemon.wait(PATIENCE_SECONDS)

    def serial(self, number: int = 0) -> str:
        return f"127.0.0.1:{FIRST_PORT + number}"

    @property
    def path(self) -> str:
        """PATH for the computer: adb is the namespace's."""
        return f"{self.folder / 'host'}{os.pathsep}{os.environ['PATH']}"

    def connect(self, number: int = 0) -> None:
        """Plug a phone in: start its daemon and wait until adb lists it."""
        path = f"{self.folder / f'bin/{number}'}:{os.environ['PATH']}"
        for order in ("pull-at", "calls"):
            (self.folder / order).unlink(missing_ok=True)
        environment = {"PATH": path, "ADBD_PORT": str(FIRST_PORT + number), "HOME": str(self.folder / "home")}
        environment |= {"QEMU_RESERVED_VA": ADDRESSES} if self.arm else {}
        log = (self.folder / f"adbd-{number}.log").open("ab")
        command = [*self._enter(), "adbd"]
        self._daemons[number] = subprocess.Popen(
            command, env=os.environ | environment, stdout=log, stderr=log, cwd="/tmp"
        )
        log.close()
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            self.adb("connect", self.serial(number))
            if f"{self.serial(number)}\tdevice" in self.adb("devices"):
                return
            time.sleep(0.1)
        raise RuntimeError(
            f"the stand-in's daemon does not start: {(self.folder / f'adbd-{number}.log').read_text()[-2000:]}"
        )

    def disconnect(self, number: int = 0) -> None:
        """Pull the cable: the daemon is killed; what it started goes on."""
        daemon = self._daemons.pop(number)
        for child in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        daemon.wait(PATIENCE_SECONDS)

    def disconnect_at_call(self, call: int) -> None:
        """Pull the cable of the first phone just before adb's call of this number, counted from here from 0."""
        daemon = self._daemons[0].pid
        child = Path(f"/proc/{daemon}/task/{daemon}/children").read_text().strip()
        (self.folder / "calls").write_text("0\n")
        (self.folder / "pull-at").write_text(f"{call} {child}\n")

    def calls(self) -> int:
        """How often adb was called since `disconnect_at_call`."""
        return int((self.folder / "calls").read_text())

    def adb(self, *words: str) -> str:
        command = [str(self.folder / "host" / "adb"), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS).stdout

    def inside(self, script: str) -> str:
        """A shell on the phones, not through adb."""
        command = [*self._enter(), "sh", "-c", script]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS).stdout

    def running(self) -> list[str]:
        """The command lines of the harness's processes on the phones."""
        namespace = os.readlink(f"/proc/{self._inner()}/ns/pid")
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile
                if os.readlink(process / "ns/pid") == namespace:
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return [line for line in found if "mobileclip-bench" in line]

    def set_property(self, name: str, value: str, number: int = 0) -> None:
        (self.folder / f"bin/{number}/properties/{name}").write_text(f"[{name}]: [{value}]\n")

    def set_thermal_status(self, status: int, number: int = 0) -> None:
        (self.folder / f"bin/{number}/thermalservice").write_text(THERMAL.format(status=status))

    def set_clock(self, core: int, clock: str, khz: int) -> None:
        """What the kernel of all phones tells of a core: `clock` is cpuinfo_max_freq, scaling_max_freq (what it allows)
        or scaling_cur_freq."""
        file = self.folder / f"cpu/cpu{core}/cpufreq/{clock}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{khz}\n")

    def program(self, name: str, text: str, number: int = 0) -> None:
        """Put a shell script in the place of a program on the phone."""
        script(self.folder / f"bin/{number}" / name, text)

    def stays_on(self, number: int = 0) -> str | None:
        """The setting that keeps the screen on while the cable is in; None where it was never set."""
        file = self.folder / f"bin/{number}/stay_on_while_plugged_in"
        return file.read_text().strip() if file.exists() else None

    def keep_on(self, value: str, number: int = 0) -> None:
        (self.folder / f"bin/{number}/stay_on_while_plugged_in").write_text(f"{value}\n")

    def asked(self, number: int = 0) -> list[str]:
        """What `cmd` and `svc` of the phone were called with."""
        log = self.folder / f"bin/{number}/log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def _has_users(self) -> bool:
        """Whether there is a namespace of users too: for who is not root, and for formats of programs of its own."""
        return self.arm or os.geteuid() != 0

    def _inner(self) -> int:
        """The namespace's first process, as seen from here."""
        return int(Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text())

    def _enter(self) -> list[str]:
        user = ["--user", "--preserve-credentials"] if self._has_users else []
        return [str(shutil.which("nsenter")), "--target", str(self._inner()), *user, "--net", "--mount", "--pid", "--"]

    def _write_adb(self) -> None:
        here = shlex.quote(str(self.folder))
        script(
            self.folder / "host" / "adb",
            f"""
            PATH={shlex.quote(os.environ["PATH"])}
            if [ -f {here}/pull-at ]; then
                read -r at daemon <{here}/pull-at
                read -r call <{here}/calls
                echo $((call + 1)) >{here}/calls
                [ "$call" -ge "$at" ] && kill -9 "$daemon" 2>/dev/null && sleep 0.2
            fi
            export HOME={here}/home TMPDIR={here}/tmp ADB_LOCAL_TRANSPORT_MAX_PORT=5554 ADB_MDNS=0
            exec {shlex.join([*self._enter(), "/usr/bin/adb"])} "$@"
            """,
        )

    def _write_programs(self, number: int) -> None:
        folder = self.folder / f"bin/{number}"
        (folder / "properties").mkdir(parents=True)
        here = shlex.quote(str(folder))
        for name, value in (PROPERTIES | {"ro.product.model": f"Phone {number + 1}"}).items():
            self.set_property(name, value, number)
        self.set_thermal_status(0, number)
        (folder / "battery").write_text(BATTERY)
        if self.arm:
            script(folder / "uname", '[ "$*" = -m ] && echo aarch64 || exec /usr/bin/uname "$@"')
            self.set_property("ro.product.cpu.abi", "arm64-v8a", number)
        one = "sed 's/^[^:]*: .//; s/.$//'"
        script(folder / "getprop", f'[ $# -eq 0 ] && cat {here}/properties/* || {one} {here}/properties/"$1"')
        script(folder / "dumpsys", f'cat {here}/"$1"')
        # The real ones: `settings get` prints null for what was never set; `svc power stayon` knows these words only.
        stayed = f"{here}/stay_on_while_plugged_in"
        script(
            folder / "settings",
            f"""
            case "$*" in
            "get global low_power") echo 0 ;;
            "get global stay_on_while_plugged_in") cat {stayed} 2>/dev/null || echo null ;;
            "put global stay_on_while_plugged_in "[0-9]*) echo "$4" >{stayed} ;;
            "delete global stay_on_while_plugged_in") rm -f {stayed}; echo "Deleted 1 rows" ;;
            *) echo "Invalid command: $*" >&2; exit 255 ;;
            esac
            """,
        )
        script(
            folder / "svc",
            f"""
            echo "svc $*" >>{here}/log
            case "$*" in
            "power stayon true") echo 15 >{stayed} ;;
            "power stayon false") echo 0 >{stayed} ;;
            *) echo "usage: svc power stayon [true|false|usb|ac|wireless|dock]" >&2; exit 1 ;;
            esac
            """,
        )
        script(folder / "cmd", f'echo "cmd $*" >>{here}/log')
        if self.own_shell:
            toybox = str(shutil.which("toybox"))
            for name in subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split():
                if not (folder / name).exists():
                    (folder / name).symlink_to(toybox)


def when(condition: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """Act as soon as the condition holds, beside the test."""

    def watch() -> None:
        for _ in range(60_000):
            if condition():
                act()
                return
            time.sleep(0.001)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread
