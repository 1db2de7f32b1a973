"""Shows that exports and runs open no connection and write no file outside of the folders they were given.

    python benchmarks/quiet_targets.py [TARGET ...]

Needs Linux and strace. nano's image tower is exported to each target and verified quickly, in processes whose home,
cache and temporary folders are new ones. Sockets of the internet and files that are opened to be written, made, renamed
or removed anywhere else are listed; none is the aim, and the exit code is 1 otherwise.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from mobileclip_deploy.targets import targets

CALLS = "socket,connect,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,truncate"
CALLS += ",link,linkat,symlink,symlinkat"
SOCKET = re.compile(r"socket\((AF_INET6?|AF_PACKET), [^)]*\)")
PATH = re.compile(r'(?:AT_FDCWD|\d+)?(?:<(?P<folder>[^>]*)>)?(?:, )?"(?P<path>[^"]+)"')
WRITES = ("O_WRONLY", "O_RDWR", "O_CREAT")
ELSEWHERE = ("/dev/", "/proc/")
PROGRAM = "from mobileclip_deploy.cli import main; main()"


def traced(words: list[str], folder: Path) -> tuple[int, list[str]]:
    """The exit code of a command, and the lines of its trace."""
    log = folder / "trace"
    places = {"HOME": "home", "TMPDIR": "temporary", "XDG_CACHE_HOME": "cache"}
    for name in places.values():
        (folder / name).mkdir(exist_ok=True)
    environment = os.environ | {key: str(folder / name) for key, name in places.items()}
    strace = ["strace", "-f", "--seccomp-bpf", "-y", "-qq", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(log)]
    done = subprocess.run(
        [*strace, sys.executable, "-P", "-c", PROGRAM, "--quiet", *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 1, 3, 4):
        print(done.stderr, file=sys.stderr)
    return done.returncode, log.read_text(encoding="utf-8", errors="replace").splitlines()


def outside(lines: list[str], folder: Path) -> Counter[str]:
    """Connections, and files that were changed outside of a folder, by name."""
    found: Counter[str] = Counter()
    for line in lines:
        _, _, call = line.partition(" ")
        call = call.strip()
        if (socket := SOCKET.search(call)) is not None:
            found[socket[0]] += 1
        name = call.partition("(")[0]
        opens = name in ("open", "openat")
        if name in ("socket", "connect") or " = -1 " in call or (opens and not any(flag in call for flag in WRITES)):
            continue
        for match in PATH.finditer(call):
            path = os.path.normpath(os.path.join(match["folder"] or folder, match["path"]))
            if not path.startswith((f"{folder}/", *ELSEWHERE)) and path != str(folder):
                found[f"{name} {path}"] += 1
    return found


def main() -> int:
    """Trace every target that is asked for, or that is installed."""
    if shutil.which("strace") is None:
        raise SystemExit("strace is not installed")
    loud = 0
    for target in sys.argv[1:] or targets():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            export = ["export", "--target", target, "--tower", "image", "--no-verify", "-o", "out"]
            code, lines = traced(export, folder)
            found = {"export": dict(outside(lines, folder)), "code": code}
            bundles = [path for path in (folder / "out").glob("*") if path.is_dir()]
            if bundles:
                code, lines = traced(["verify", str(bundles[0]), "--checks", "quick"], folder)
                found |= {"run": dict(outside(lines, folder)), "run code": code}
            loud += bool(found["export"] or found.get("run"))
            print(json.dumps({target: found}), flush=True)
    return int(loud > 0)


if __name__ == "__main__":
    sys.exit(main())
