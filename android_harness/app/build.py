"""Builds the app that measures by itself: one screen over ONNX Runtime's AAR, for phones without adb.

python build.py --aar onnxruntime.aar [--job FOLDER]... [--into bench.apk]

Jobs that `mobileclip-deploy benchmark BUNDLE --device android:app --job FOLDER` wrote come within the APK; others are
fetched by a link. It needs a JDK and an Android SDK with a platform and build tools (`ANDROID_HOME`), or each by name.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[1] / "clients" / "java" / "src" / "mobileclip"
SHARED = [CORE / "Json.java", CORE / "MobileCLIPException.java"]
ABI, LEAST_API = "arm64-v8a", "29"
FARM = runpy.run_path(str(HERE.parent / "farm" / "build.py"))
run, make_key, sign = FARM["run"], FARM["make_key"], FARM["sign"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aar", type=Path, required=True, help="ONNX Runtime for Android, 1.16 or newer")
    parser.add_argument("--job", type=Path, action="append", default=[])
    parser.add_argument("--into", type=Path, default=Path("bench.apk"))
    parser.add_argument("--abi", default=ABI, help=f"of the native libraries ({ABI}; an emulator on a PC has x86_64)")
    sdk = Path(os.environ.get("ANDROID_HOME", "/usr/lib/android-sdk"))
    parser.add_argument("--platform", type=Path, default=newest(sdk, "platforms/*/android.jar"), help="android.jar")
    parser.add_argument("--tools", type=Path, default=newest(sdk, "build-tools/*"), help="the folder of d8 and aapt2")
    chosen = parser.parse_args()
    for job in chosen.job:
        if not (job / "files.json").is_file():
            parser.error(f"{job} is no job: mobileclip-deploy benchmark BUNDLE --device android:app --job FOLDER")
    if chosen.platform is None or chosen.tools is None or not (chosen.tools / "d8").is_file():
        parser.error("no Android SDK with a platform and d8: set ANDROID_HOME, or give --platform and --tools")
    os.environ["PATH"] = f"{chosen.tools}{os.pathsep}{os.environ['PATH']}"
    build(chosen.aar, chosen.job, chosen.into, chosen.platform, chosen.abi)
    print(f"{chosen.into}: {chosen.into.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


def newest(sdk: Path, pattern: str) -> Path | None:
    """The path of the largest version; None where there is none."""

    def version(path: Path) -> list[int]:
        words = path.relative_to(sdk).parts[1].replace("-", ".").split(".")
        return [int(word) for word in words if word.isdigit()]

    return max(sdk.glob(pattern), key=version, default=None)


def build(aar: Path, jobs: list[Path], into: Path, platform: Path, abi: str = ABI) -> None:
    """Compile, translate, pack and sign; the key is made for this build and thrown away."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        with zipfile.ZipFile(aar) as archive:
            archive.extract("classes.jar", place)
            libraries = [one for one in archive.namelist() if one.startswith(f"jni/{abi}/") and one.endswith(".so")]
            if not libraries:
                raise SystemExit(f"{aar} has no libraries for {abi}")
            archive.extractall(place, libraries)
        sources = [*SHARED, *sorted((HERE / "src").rglob("*.java"))]
        runtime, classes = place / "classes.jar", place / "classes"
        path = os.pathsep.join((str(platform), str(runtime)))
        words = ("--release", "8", "-encoding", "UTF-8", "-Xlint:all,-options", "-Werror", "-cp", path)
        run("javac", *words, "-d", str(classes), *map(str, sources))
        compiled = [str(one) for one in sorted(classes.rglob("*.class"))]
        library = ("--release", "--lib", str(platform), "--min-api", LEAST_API, "--output", str(place))
        run("d8", *library, *compiled, str(runtime))
        unaligned = place / "unaligned.apk"
        manifest = ("--manifest", str(HERE / "AndroidManifest.xml"))
        run("aapt2", "link", "-I", str(platform), *manifest, "-o", str(unaligned))
        with zipfile.ZipFile(unaligned, "a", zipfile.ZIP_DEFLATED) as archive:
            for code in sorted(place.glob("*.dex")):
                archive.write(code, code.name)
            for library_file in libraries:
                archive.write(place / library_file, library_file.replace("jni/", "lib/", 1))
            for job in jobs:
                for file in sorted(path for path in job.rglob("*") if path.is_file()):
                    archive.write(file, f"assets/jobs/{job.name}/{file.relative_to(job).as_posix()}")
        make_key(place / "key", "bench")
        sign(unaligned, into, place / "key")


if __name__ == "__main__":
    main()
