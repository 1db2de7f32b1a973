"""An index is whole or as before: whoever is killed, whatever is cut off, whoever writes at the same time."""

import errno
import io
import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from indices import units, written

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import DiskFull, InvalidInput, UsageError
from mobileclip_deploy.search.index import Index
from mobileclip_deploy.search.index_file import DESCRIPTION, SLOTS, Slot, read_slot
from mobileclip_deploy.search.storage import STORES
from mobileclip_deploy.search.writing import IndexWriter, compact

APPEND = """
import sys, os, signal
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[2])
from indices import units
from mobileclip_deploy.search.writing import IndexWriter
with IndexWriter.open(Path(sys.argv[1])) as (writer, _):
    writer.add(["new"], [0], units(1, seed=9))
    writer.remove([0])
    writer._stream.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "a.mcdx", units(10))


def names(path: Path) -> list[str]:
    return [name for _, name, _ in Index(path)]


def test_what_is_added_and_removed_is_seen_at_once_and_by_later_readers_alone(path: Path) -> None:
    before = Index(path)
    with IndexWriter.open(path) as (writer, _):
        writer.add(["new"], [7], units(1, seed=9))
        writer.remove([3, 9])
        assert len(Index(path)) == 10
        writer.commit()
        writer.add(["lost"], [7], units(1, seed=8))  # never committed
    assert names(path) == ["0", "1", "2", "4", "5", "6", "7", "8", "new"]
    assert Index(path).search(units(10)[3], 10)[0][0].id != "3"
    assert (len(before), before.search(units(10)[3], 1)[0][0].id) == (10, "3")


def test_a_writer_that_is_killed_leaves_the_index_as_it_was_and_no_lock(path: Path) -> None:
    before = path.read_bytes()
    arguments = [sys.executable, "-c", APPEND, str(path), str(Path(__file__).parents[1])]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "written\n"
        with pytest.raises(UsageError, match=r"another process writes .*a\.mcdx"), IndexWriter.open(path):
            pass
        with pytest.raises(UsageError, match="another process writes"):
            compact(path)
        child.kill()
    assert len(path.read_bytes()) > len(before)  # its rows are behind the end
    assert len(names(path)) == 10
    with IndexWriter.open(path) as (writer, _):
        writer.add(["mine"], [0], units(1, seed=3))
        writer.commit()
    assert names(path)[-1] == "mine"
    assert path.read_bytes()[: len(before)][DESCRIPTION:] == before[DESCRIPTION:]


def test_a_power_cut_at_any_byte_of_an_append_leaves_the_old_or_the_new(path: Path, tmp_path: Path) -> None:
    old = path.read_bytes()
    with IndexWriter.open(path) as (writer, _):
        writer.add(["new"], [0], units(1, seed=9))
        writer.commit()
    new = path.read_bytes()
    cut = tmp_path / "cut.mcdx"
    for end in range(len(old), len(new) + 1):  # the slot is written when all the rest is on the disk
        cut.write_bytes(old + new[len(old) : end])
        assert len(Index(cut)) == 10
    place = next(place for place in SLOTS if old[place : place + 32] != new[place : place + 32])
    for part in range(33):  # half a slot
        cut.write_bytes(new[:place] + new[place : place + part] + old[place + part : place + 32] + new[place + 32 :])
        assert len(Index(cut)) in (10, 11)
    assert len(Index(cut)) == 11


def test_what_was_cut_off_or_changed_is_refused_in_one_line(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    end = read_slot("", whole).end
    for size in range(0, end, 61):
        path.write_bytes(whole[:size])
        with pytest.raises(InvalidInput, match=r"a\.mcdx (is damaged|is not an index|cannot be read)"):
            Index(path)
    for place in range(end):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            Index(path)
        except InvalidInput:
            continue
        # A slot of the two may be lost, and what fills a block up to 64 bytes means nothing; all else is seen.
        assert not whole[place] or place < DESCRIPTION
    path.write_bytes(whole[:8] + b"\x02" + whole[9:])
    with pytest.raises(InvalidInput, match="an index of version 2; this release reads 1; update it"):
        Index(path)


@pytest.mark.parametrize("elements", STORES)
def test_permuted_vectors_are_refused_unless_the_checksums_are_left_out(elements: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.mcdx", units(10), elements)
    kind = list(Index(path).store.arrays)[-1]  # the one whose scores decide
    data = np.memmap(path, np.uint8, "r+")
    vectors = Index(path).blocks[0].arrays(data, Index(path).store)[kind]
    vectors[:] = vectors[::-1].copy()
    data.flush()
    for read in (Index, lambda path: mcd.search(path, "a dog")):
        with pytest.raises(InvalidInput, match=r"a\.mcdx is damaged \(the block before byte .* write it again"):
            read(path)
    unchecked = Index(path, check=False)
    assert unchecked.search(units(10)[0], 1)[0][0].id != "0"
    with pytest.raises(InvalidInput, match="is damaged"):
        unchecked.check()


@pytest.mark.parametrize("elements", STORES)
def test_compacting_drops_what_is_gone_and_changes_no_answer(elements: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.mcdx", units(50), elements)
    with IndexWriter.open(path) as (writer, _):
        for number in range(20):
            writer.add([f"new{number}"], [0], units(1, seed=number + 100))
            writer.commit()
        writer.remove(range(10, 40))
        writer.commit()
    before = Index(path)
    answers = before.search(units(3, seed=1), 40)
    assert compact(path) == 30
    after = Index(path)
    assert (len(before.blocks), after.rows, len(after)) == (22, 40, 40)
    for old, new in zip(answers, after.search(units(3, seed=1), 40), strict=True):
        assert [match.id for match in new] == [match.id for match in old]
        exact = 1e-6 if "float" in elements else 0  # sums of floats depend on how many rows are multiplied at once
        np.testing.assert_allclose([one.score for one in new], [one.score for one in old], rtol=0, atol=exact)
    assert len(after.blocks) == 1
    assert path.stat().st_size < before.slot.end


def test_a_full_disk_is_told_and_nothing_is_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(DiskFull, match="no room is left"), IndexWriter.open(path) as (writer, _):
        writer.add(["new"], [0], units(1, seed=9))
        monkeypatch.setattr("os.fsync", Mock(side_effect=full))
        writer.commit()
    assert path.read_bytes() == before


def test_a_disk_that_takes_a_part_of_a_block_leaves_the_index_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Disk(io.FileIO):
        left = 100

        def write(self, data: Any) -> int:
            if not Disk.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            part = bytes(data)[: Disk.left]
            Disk.left -= len(part)
            return super().write(part)

    before = path.read_bytes()
    monkeypatch.setattr("os.fdopen", lambda descriptor, *_, **__: Disk(descriptor, "r+"))
    with pytest.raises(DiskFull, match="no room is left"), IndexWriter.open(path) as (writer, _):
        writer.add(["new"], [0], units(1, seed=9))
    assert Disk.left == 0
    assert path.read_bytes() == before
    Disk.left = 10**6  # there is room again
    with IndexWriter.open(path) as (writer, _):
        writer.add(["new"], [0], units(1, seed=9))
        writer.commit()
    assert names(path)[-1] == "new"


def test_links_folders_and_pipes_are_no_index(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.mcdx"
    link.symlink_to(path)
    with pytest.raises(InvalidInput, match="cannot be written"), IndexWriter.open(link):
        pass
    with pytest.raises(InvalidInput, match="is a folder, not an index"):
        Index(tmp_path)
    shutil.copy(__file__, tmp_path / "b.mcdx")
    with pytest.raises(InvalidInput, match="is not an index"):
        Index(tmp_path / "b.mcdx")


def test_a_description_that_another_writer_spells_otherwise_is_read(path: Path) -> None:
    whole = path.read_bytes()
    described = json.loads(whole[DESCRIPTION:].split(b"\0", 1)[0]) | {"of a newer version": "x" * 200}
    told = json.dumps(described).encode()
    head, slot = bytearray(whole[:DESCRIPTION]), read_slot("", whole)
    start = DESCRIPTION + -(-struct.unpack_from("<I", whole, 24)[0] // 64) * 64
    struct.pack_into("<II", head, 24, len(told), 0)
    struct.pack_into("<I", head, 28, zlib.crc32(told, zlib.crc32(head[:36])))
    content = head + told.ljust(-(-len(told) // 64) * 64, b"\0") + whole[start:]
    path.write_bytes(content)
    with path.open("r+b") as stream:
        Slot(slot.sequence, slot.end + len(content) - len(whole)).write(stream)
    assert names(path) == [str(number) for number in range(10)]
