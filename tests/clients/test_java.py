"""The Java package: the shared vectors and a bundle through its own checks, random cases beside them, and its jar."""

import base64
import hashlib
import json
import os
import re
import struct
import subprocess
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from client_vectors import FOLDER, noise, random_pictures
from conversions import ROOT
from exports import Exports
from java_client import JAVA, JavaClient
from PIL import Image, ImageCms
from programs import output
from tokenizer_vectors import is_mojibake, learned_from_german, odd_texts
from web.published import Published

from mobileclip_deploy.network.model.precision import PRECISIONS
from mobileclip_deploy.network.model.preprocessing import load_image, tower_bytes
from mobileclip_deploy.network.model.tokenizer import encode, write_tokenizer_files
from mobileclip_deploy.parity.gates import Gates
from mobileclip_deploy.search.index import Index

JAVA_8 = 52


def test_the_packages_own_checks_pass_on_a_published_bundle_and_python_reads_the_index_that_they_write(
    client: JavaClient, published: Published, tmp_path: Path
) -> None:
    options = (f"-Dwritten={tmp_path / 'library.mcdx'}", f"-Dlock={published.lock}")
    done = client.run("mobileclip.Checks", FOLDER, published.bundle, options=options)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.fullmatch(r"(\d+) passed, 0 failed", done.stdout.strip())
    assert told is not None, done.stdout
    assert int(told[1]) > 1200
    index = Index(tmp_path / "library.mcdx")
    assert (len(index), index.description.variant, index.store.name) == (50, "nano", "int8")
    for row, name in ((0, "IMG_0.jpg"), (4, "IMG_4.jpg"), (7, "Кот 🐈.png"), (49, "IMG_49.jpg")):
        query = noise(index.store.dimension, row).view(np.int8).astype(np.float32)
        assert [one.id for one in index.search(query, 1)[0]] == [name]


def test_random_pictures_and_texts_give_pythons_numbers(
    client: JavaClient, exports: Exports, tmp_path: Path, seed: int
) -> None:
    pictures, digests = [], []
    for pixels, spec in random_pictures(seed, 8):
        content = base64.b64encode(pixels.tobytes()).decode()
        pictures.append({"width": pixels.shape[1], "bytes": content, "preprocess": spec.model_dump(mode="json")})
        answer = tower_bytes(Image.fromarray(pixels), spec)
        digests.append(hashlib.sha256(np.asarray(answer).tobytes()).hexdigest())
    odd = [text for text in islice(odd_texts(seed), 400) if not is_mojibake(text)]
    texts = [
        *odd,
        "a long sentence, " * 10_000,
        "".join(map(chr, range(0x4E00, 0x9FA5))),
        "🐈" * 5_000,
        "ΟΔΟΣ ΟΔΟΣ. 'Σ",
    ]
    given, wanted = tmp_path / "given.json", encode(texts).tolist()
    tokens, others = learned_from_german()
    write_tokenizer_files(tmp_path, tokens)
    own = {"folder": str(tmp_path), "settings": tokens.model_dump(mode="json"), "texts": others}
    given.write_text(json.dumps({"pictures": pictures, "texts": texts, "own": own}), encoding="utf-8")
    texts, wanted = [*texts, *others], [*wanted, *encode(others, tokens).tolist()]
    done = client.run("mobileclip.Answers", given, exports.bundle("onnx", "fp32").path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[: len(digests)] == digests
    ids, gates = lines[len(digests) : len(digests) + len(texts)], lines[len(digests) + len(texts) :]
    for text, found, right in zip(texts, ids, wanted, strict=True):
        assert [int(one) for one in found.split()] == right, text
    bounds = {name: Gates().shipped(name).value for name in PRECISIONS}
    assert {line.split()[0]: float(line.split()[1]) for line in gates} == bounds


def stored_pictures(folder: Path) -> list[Path]:
    """Files of each kind that Java reads: of EXIF's orientations, grey, of one bit, of 16 bits, in inks, with alpha."""
    picture = Image.fromarray(noise(3 * 21 * 16, 5).reshape(16, 21, 3)).resize((63, 48))
    for orientation in (1, 3, 6, 7):
        exif = Image.Exif()
        exif[274] = orientation
        for kind in ("jpg", "png"):
            picture.save(folder / f"orientation{orientation}.{kind}", exif=exif)
    for mode, kind in (
        ("L", "jpg"),
        ("CMYK", "jpg"),
        ("L", "png"),
        ("LA", "png"),
        ("1", "png"),
        ("P", "png"),
        ("RGB", "bmp"),
    ):
        picture.convert(mode).save(folder / f"{mode}.{kind}")
    see_through = picture.convert("RGBA")
    see_through.putalpha(picture.convert("L"))
    see_through.save(folder / "alpha.png")
    wide = noise(2 * 48 * 63, 6).view("<u2").reshape(48, 63)
    Image.fromarray(wide).save(folder / "wide.png")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(folder / "profile.jpg", icc_profile=profile)
    picture.convert("L").save(folder / "profile.png", icc_profile=profile)
    return sorted(folder.iterdir())


def test_files_are_decoded_to_pythons_pixels(client: JavaClient, tmp_path: Path) -> None:
    files = [*stored_pictures(tmp_path), tmp_path / "none.jpg"]
    files[-1].write_text("not a picture")
    done = client.run("mobileclip.Decode", *files, options=("-Djava.awt.headless=true",))
    assert done.returncode == 0, done.stderr
    *sides, refused = done.stdout.splitlines()
    assert refused == "PICTURE"
    for file, line in zip(files, sides, strict=False):
        wanted = np.asarray(load_image(file))
        assert line == f"{wanted.shape[1]} {wanted.shape[0]}", file.name
        assert np.array_equal(np.fromfile(f"{file}.rgb", np.uint8), wanted.ravel()), file.name


@pytest.mark.slow
def test_the_jar_is_for_java_8_and_android_and_needs_nothing_else(client: JavaClient, tmp_path: Path) -> None:
    with zipfile.ZipFile(client.jar) as jar:
        names = jar.namelist()
        for name in names:
            if name.endswith(".class"):
                magic, _, version = struct.unpack(">IHH", jar.read(name)[:8])
                assert (magic, version) == (0xCAFEBABE, JAVA_8), name
        assert "-keep class ai.onnxruntime.**" in jar.read("META-INF/proguard/mobileclip.pro").decode()
        told = jar.read("META-INF/MANIFEST.MF").decode()
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert f"Implementation-Version: {version[1]}\r\n" in told
    assert {name.split("/")[0] for name in names} == {"META-INF", "mobileclip"}
    jdeps = Path(client.javac).resolve().with_name("jdeps")
    found = output(jdeps, "-verbose:package", client.jar)
    needed = {line.split()[1] for line in found.splitlines() if line.startswith("      ")}
    # No java.nio.file, java.util.stream, java.time: Android has those from version 8 on.
    allowed = {"java.io", "java.lang", "java.lang.invoke", "java.nio", "java.nio.channels", "java.nio.charset"}
    assert needed <= allowed | {
        "java.text",
        "java.util",
        "java.util.function",
        "java.util.regex",
        "java.util.zip",
        "mobileclip",
    }
    again = tmp_path / "again"
    subprocess.run([JAVA / "build.sh", again], check=True, timeout=300)
    assert (again / "mobileclip.jar").read_bytes() == client.jar.read_bytes()


FAULTS = {
    "blue and red exchanged": ("Picture", "Layout.RGBA ? 0 : 2", "Layout.RGBA ? 2 : 0", "colours of"),
    "a Bitmap's blue and red": ("Picture", "pixel >> 16 & 255, pixel >> 8", "pixel & 255, pixel >> 8", "a Bitmap's"),
    "another filter": ("Resize", "double a = -0.5;", "double a = -0.75;", "pixels of"),
    "weights that are cut off": ("Resize", "one < 0 ? one - 0.5 : one + 0.5", "one", "pixels of"),
    "merges with CRLF": ("Tokenizer", r'split("\r?\n")', r'split("\n")', "merges of Windows"),
    "half of the merges": ("Tokenizer", "vocabulary.size() - UNMERGED)", "ranks.size())", "half of the merges"),
    "another space": ("Embedding", "if (embeddingSpace.equals(space))", "if (!space.isEmpty())", "another space"),
    "schema 3": ("Manifest", "NEWEST_SCHEMA = 2", "NEWEST_SCHEMA = 3", "a newer schema"),
    "a cut index": ("Index", 'throw damaged("it is shorter than what was committed")', "return start", "cut in the"),
    "removed rows": ("Index", "&& !removed.get(block.first + index)", "", "matches of"),
    "another checkpoint's words": (
        "MobileCLIP",
        "if (there && Arrays",
        "if (there || Arrays",
        "a vocabulary of another",
    ),
    "the slot that is valid": ("IndexWriter", "index.slot == 96 ? 64 : 96", "index.slot", "a slot that was half"),
    "a self-test that passes": ("TowerTest", "worst >= bound(precision)", "true", "wrong answers of"),
}


# Those that no check of another one's can tell are planted together.
TOGETHER = (
    ("blue and red exchanged", "merges with CRLF", "another space", "schema 3", "a cut index"),
    ("a Bitmap's blue and red", "half of the merges", "removed rows", "the slot that is valid"),
    ("another filter", "another checkpoint's words"),
    ("weights that are cut off", "a self-test that passes"),
)


@pytest.mark.slow  # four times what the first test does
@pytest.mark.parametrize("faults", TOGETHER, ids="; ".join)
def test_a_planted_fault_is_told(client: JavaClient, exports: Exports, tmp_path: Path, faults: tuple[str, ...]) -> None:
    assert sorted(sum(TOGETHER, ())) == sorted(FAULTS)
    files = []
    for name, right, wrong, _ in map(FAULTS.__getitem__, faults):
        source = (JAVA / "src" / "mobileclip" / f"{name}.java").read_text(encoding="utf-8")
        assert source.count(right) == 1
        files.append(tmp_path / f"{name}.java")
        files[-1].write_text(source.replace(right, wrong), encoding="utf-8")
    assert len({*files}) == len(files)
    command = [client.javac, "--release", "8", "-Xlint:-options", "-cp", client.jar, "-d", tmp_path / "classes"]
    subprocess.run([*command, *files], check=True, timeout=300)
    path = os.pathsep.join(map(str, (tmp_path / "classes", client.jar, client.desktop, client.tests)))
    bundle = exports.bundle("onnx", "fp16" if "a self-test that passes" in faults else "fp32").path
    words = [client.java, "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", path, "mobileclip.Checks"]
    done = subprocess.run([*words, FOLDER, bundle], capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert done.returncode == 1
    for fault in faults:
        assert f"not ok {FAULTS[fault][3]}" in done.stdout, fault + done.stdout[-1000:] + done.stderr
