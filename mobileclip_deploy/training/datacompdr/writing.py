"""Writing of reinforced shards in the published form, so that Apple's own training and this one can read them.

Members and their order are those of apple/ml-mobileclip-dr, src/raygen/datasetio.py (`TarWriter`) at commit 418551d.
Images and true captions are in the same shard, as its training expects after joining. The same content gives the same
bytes.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mobileclip_deploy.base.files import file_sha256, read_regular, write_whole
from mobileclip_deploy.base.files.tars import read_extent, scan
from mobileclip_deploy.errors import InvalidInput, readable_reason
from mobileclip_deploy.evaluation.pairs import Pair
from mobileclip_deploy.network.model.preprocessing import decode_image
from mobileclip_deploy.training.datacompdr import members
from mobileclip_deploy.training.datacompdr.randaugment import Augmentation, draw, replay
from mobileclip_deploy.training.reinforcement.building import ShardFormat, ShardJob
from mobileclip_deploy.training.reinforcement.index import PUBLISHED, ShardEntry, ShardIndex
from mobileclip_deploy.training.reinforcement.teachers import Teacher, loaded

NAMES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


def _write(job: ShardJob, index: ShardIndex, folder: Path) -> ShardEntry:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for row_index, row in enumerate(job.rows, start=job.first):
            for ending, content in _sample(row, row_index, job, index):
                header = tarfile.TarInfo(ending)
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    content = stream.getvalue()
    name = f"{job.first // index.shard_rows:08d}.tar"
    write_whole(folder / name, content)
    return ShardEntry(file=name, sha256=hashlib.sha256(content).hexdigest(), first=job.first, rows=len(job.rows))


def _sample(row: Pair, number: int, job: ShardJob, index: ShardIndex) -> Iterator[tuple[str, bytes]]:
    file = job.folder / row.image
    if row.text is None:
        raise InvalidInput(f"{file} has no caption, which DataCompDR's format needs; give pairs with texts")
    original = read_regular(file, members.LIMIT)
    ending, stored = _image(original, file)
    digest = hashlib.sha256(original).hexdigest()
    uid = hashlib.sha256(f"{number} {digest}".encode()).hexdigest()[:32]
    opened = members.image(stored)
    teachers = [loaded(shared) for shared in job.teachers]
    size = max(teacher.entry.image_size for teacher in teachers)
    chance = np.random.default_rng((index.seed, number))
    drawn = draw(index.augmentations, opened.width, opened.height, size, chance)
    images, texts = said(opened, drawn, row.texts, teachers)
    arrays = {"image_emb": images, "text_emb": texts}
    parts = {
        ending: stored,
        "txt": row.text.encode(),
        "syn.json": _json({"syn_text": list(row.captions)}),
        "paug.json": _json({"param_aug": [augmentation.stored() for augmentation in drawn]}),
        **({"npz": _npz(arrays)} if index.dtype == "float32" else {"pth.gz": _pth_gz(arrays)}),
        "json": _json({"uid": uid, "sha256": digest}),
    }
    for name, content in parts.items():
        yield f"{uid}.{name}", content


def said(
    image: Image.Image, drawn: tuple[Augmentation, ...], texts: tuple[str, ...], teachers: Sequence[Teacher]
) -> tuple[Tensor, Tensor]:
    """Returns teachers' embeddings of augmentations of an image and of texts: float32 [K, sum of D] and [T, sum of D].
    All teachers see views of the largest teacher's size."""
    size = max(teacher.entry.image_size for teacher in teachers)
    views = torch.stack([replay(image, augmentation, size) for augmentation in drawn]).float() / 255
    return (
        torch.cat([teacher.views(views) for teacher in teachers], dim=1),
        torch.cat([teacher.texts(texts, torch.float32) for teacher in teachers], dim=1),
    )


def _image(content: bytes, file: Path) -> tuple[str, bytes]:
    """Returns the file as it is, or as PNG if the published readers cannot read its format."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.format in NAMES:
                members.image(content)
                return NAMES[opened.format], content
        stream = io.BytesIO()
        decode_image(content, str(file)).save(stream, "PNG")
        return "png", stream.getvalue()
    except InvalidInput:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, ValueError, SyntaxError, EOFError, struct.error, ...
        raise InvalidInput(f"{file}: {readable_reason(error)}") from error


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _npz(arrays: dict[str, Tensor]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **{name: value.numpy() for name, value in arrays.items()})
    return stream.getvalue()


def _pth_gz(arrays: dict[str, Tensor]) -> bytes:
    stream = io.BytesIO()
    torch.save({name: value.to(torch.bfloat16) for name, value in arrays.items()}, stream)
    return gzip.compress(stream.getvalue(), mtime=0)


def _digests(folder: Path, index: ShardIndex, entry: ShardEntry) -> list[str]:
    file = folder / entry.file
    if file_sha256(file) != entry.sha256:
        raise InvalidInput(f"{file} is damaged (its checksum differs from the index's)")
    extents = [parts["json"] for parts in scan(file).values()]
    return [json.loads(read_extent(file, extent, members.LIMIT))["sha256"] for extent in extents]


FLOAT32 = ShardFormat(PUBLISHED, "float32", _write, _digests)
BFLOAT16 = ShardFormat(PUBLISHED, "bfloat16", _write, _digests)
