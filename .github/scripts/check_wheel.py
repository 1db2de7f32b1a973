"""Ends with 1 if a wheel lacks what the package does not start without (the cards, nano and its pictures, the page),
or packs of models/ what nothing reads.

python .github/scripts/check_wheel.py dist/mobileclip_deploy-0.4.0-py3-none-any.whl
"""

import sys
import zipfile
from fnmatch import filter as matching
from fnmatch import fnmatch

# What has to be there, and how often at least.
WANTED = {
    "models/*.json": 30,
    "models/nano/weights.safetensors": 1,
    "models/nano/evaluation/images/*.png": 1900,
    "artifacts/layouts/data/*.json": 6,
    "web/page/index.html": 1,
    "clients/js/src/*.js": 1,
    "ios_harness/App/*": 1,
    "py.typed": 1,
}
# All that is packed of models/.
READ = ("*.json", "nano/README.md", "nano/weights.safetensors", "nano/evaluation/*")
LARGEST = 100_000_000  # bytes: PyPI takes no more without a request


def problems(wheel: str) -> list[str]:
    """Returns the problems of a wheel, one line each."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        size = sum(member.compress_size for member in archive.infolist())
    found = {pattern: len(matching(names, f"mobileclip_deploy/{pattern}")) for pattern in WANTED}
    few = [
        f"{name}: {found[name]} files, {least} at least are wanted"
        for name, least in WANTED.items()
        if found[name] < least
    ]
    models = [name.partition("mobileclip_deploy/models/")[2] for name in names]
    few += [
        f"models/{name}: nothing in the package reads it"
        for name in models
        if name and not any(fnmatch(name, pattern) for pattern in READ if "/" in pattern or "/" not in name)
    ]
    return few + ([f"{size / 1e6:.0f} MB are more than PyPI takes"] if size > LARGEST else [])


if __name__ == "__main__":
    wrong = [f"{wheel}: {problem}" for wheel in sys.argv[1:] for problem in problems(wheel)]
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    sys.exit(1 if wrong or len(sys.argv) < 2 else 0)
