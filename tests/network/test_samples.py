"""The packaged samples are small, varied and attributed, and a user's prompt file is read or refused with its line."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network import samples
from mobileclip_deploy.network.model.preprocessing import load_image
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.samples import calibration_prompts, image_paths, prompts, read_prompts

FOLDER = Path(samples.__file__).parent


def test_the_photographs_are_many_small_of_every_orientation_and_under_free_licences() -> None:
    assert 10 <= len(image_paths()) <= 20
    assert sum(path.stat().st_size for path in image_paths()) < 2_000_000
    for path in image_paths():
        with Image.open(path) as image:
            assert min(image.size) >= 256
            assert max(image.size) <= 640
            assert not image.getexif()
            assert "icc_profile" not in image.info
    sizes = [load_image(path).size for path in image_paths()]
    assert {(width > height) - (width < height) for width, height in sizes} == {-1, 0, 1}
    assert [path.stem for path in image_paths() if Image.open(path).mode == "L"] == ["photographer_grey"]
    rows = [line.split("|") for line in (FOLDER / "ATTRIBUTION.md").read_text("utf-8").splitlines() if ".jpg |" in line]
    assert [row[1].strip() for row in rows] == [path.name for path in image_paths()]
    assert {row[4].strip() for row in rows} == {"CC0 1.0", "CC BY 2.0", "CC BY 4.0", "public domain"}


def test_the_prompts_reach_the_tokenizer_s_corners() -> None:
    ids = encode(prompts())
    assert len(set(prompts())) == len(prompts()) >= 20
    assert "" in prompts()
    filled = np.sort((ids != 0).sum(axis=1))
    assert any(row[-1] != 0 for row in ids), "one is truncated"
    assert (filled > 33).sum() >= 7
    assert (filled > 64).sum() >= 4
    assert sum(not prompt.isascii() for prompt in prompts()) >= 8


def test_the_prompts_of_calibration_are_the_same_but_for_the_long_ones() -> None:
    """Artifacts' bytes hang on them: `w8a8` measures ranges on these, whatever towers are asked."""
    content = json.dumps(calibration_prompts()).encode()
    assert hashlib.sha256(content).hexdigest() == "55835f01e35c6e83fc858ed0038e1d48179ab8bda767400fc36b0934a7acb865"
    changed = [(was, now) for was, now in zip(calibration_prompts(), prompts(), strict=True) if was != now]
    assert len(changed) == 6


def test_prompts_are_read_from_text_and_json_and_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "prompts.txt"
    text.write_bytes("\N{BYTE ORDER MARK}a cat\r\n\n  un café \n\u732b\u2028\u72ac".encode())
    assert read_prompts(text) == ["a cat", "  un café ", "\u732b\u2028\u72ac"]
    listed = tmp_path / "prompts.JSON"
    listed.write_text(json.dumps(["", "a\nb"]))
    assert read_prompts(listed) == ["", "a\nb"]
    for path in (tmp_path / "missing.txt", tmp_path, tmp_path / "nul\0"):
        with pytest.raises(InvalidInput, match=r"cannot be read|not a regular file"):
            read_prompts(path)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"fine\ncaf\xe9\n", "line 2 is not UTF-8"),
        ("a.txt", b"", "contains no prompt"),
        ("a.txt", b"\n  \n", "contains no prompt"),
        ("a.json", b"[]", "contains no prompt"),
        ("a.json", b'["a",\n', "not JSON"),
        ("a.json", b"", "not JSON"),
        ("a.json", b"[" * 100_000, "not JSON"),
        ("a.json", b'{"a": 1}', "not a JSON list of strings"),
        ("a.json", b'["a", 1]', "entry 1 is not a string"),
    ],
)
def test_a_prompt_file_of_another_kind_is_refused_in_one_line(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=reason) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
