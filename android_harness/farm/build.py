"""Packs a job as an app and its test, for farms that start instrumentation tests and no shell.

python build.py JOB --into FOLDER      app.apk and test.apk of a folder that `mobileclip-deploy benchmark --job` wrote

It needs Debian's aapt, android-framework-res, libsmali-java, zipalign and apksigner, and Python's standard library.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
PACKAGES = {
    "aapt2": "aapt",
    "smali": "libsmali-java",
    "zipalign": "zipalign",
    "apksigner": "apksigner",
    "keytool": "default-jre-headless",
}
PASSWORD = "android"
"""Of a key that is made for one build and thrown away: a farm asks for a signature, not for whose."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path)
    parser.add_argument("--into", type=Path, default=Path("farm"))
    parser.add_argument("--framework", type=Path, default=FRAMEWORK, help="or an SDK's android.jar")
    chosen = parser.parse_args()
    if not (chosen.job / "run.sh").is_file():
        parser.error(
            f"{chosen.job} is no job: mobileclip-deploy benchmark BUNDLE --device android --job FOLDER writes one"
        )
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    missing += [] if chosen.framework.is_file() else ["android-framework-res"]
    if missing:
        parser.error(f"install what this needs: apt-get install {' '.join(missing)}")
    for path in build(chosen.job, chosen.into, chosen.framework):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


def build(job: Path, into: Path, framework: Path = FRAMEWORK) -> tuple[Path, Path]:
    """The app and its test, signed with one key, as instrumentation asks for."""
    into.mkdir(parents=True, exist_ok=True)
    assets = {f"assets/{path.relative_to(job).as_posix()}": path for path in sorted(job.rglob("*")) if path.is_file()}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_key(place / "key", "farm")
        app = pack(HERE / "app", {}, into / "app.apk", place, framework)
        return app, pack(HERE, assets, into / "test.apk", place, framework)


def pack(source: Path, assets: dict[str, Path], into: Path, place: Path, framework: Path) -> Path:
    """One APK of a folder with a manifest and one file of code."""
    (code,) = source.glob("*.smali")
    run("smali", "assemble", str(code), "--output", str(place / "classes.dex"), "--api", "29")
    unaligned = place / "unaligned.apk"
    manifest = ("--manifest", str(source / "AndroidManifest.xml"))
    run("aapt2", "link", "-I", str(framework), *manifest, "-o", str(unaligned))
    with zipfile.ZipFile(unaligned, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.write(place / "classes.dex", "classes.dex")
        for name, path in assets.items():
            archive.write(path, name)
    return sign(unaligned, into, place / "key")


def make_key(file: Path, name: str) -> None:
    """A key for one build."""
    key = ["keytool", "-genkeypair", "-keystore", str(file), "-storepass", PASSWORD, "-alias", name]
    run(*key, "-dname", f"CN=mobileclip-deploy {name}", "-keyalg", "RSA", "-keysize", "2048", "-validity", "10000")


def sign(unaligned: Path, into: Path, key: Path) -> Path:
    """The APK as Android takes it: aligned, then signed."""
    run("zipalign", "-f", "4", str(unaligned), str(into))
    signing = ["--ks", str(key), "--ks-pass", f"pass:{PASSWORD}", "--v4-signing-enabled", "false"]
    run("apksigner", "sign", *signing, str(into))
    return into


def run(*words: str) -> None:
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{words[0]} failed: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
