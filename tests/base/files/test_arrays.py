"""A damaged .npy header is an error of ours, whatever numpy's parser raises."""

import io
import struct

import numpy as np
import pytest

from mobileclip_deploy.base.files.arrays import plain_array
from mobileclip_deploy.errors import Malformed


@pytest.mark.parametrize(
    "header", [b"{'descr': (", b"{'descr': '''", b"  {\n 1", b"\x00{", b"(" * 9000, b"{'descr': 9}"]
)
def test_a_damaged_header_is_refused(header: bytes) -> None:
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with pytest.raises(Malformed, match=r"not a plain array|not an array"):
        plain_array(content, "f")
    stream = io.BytesIO()
    np.save(stream, np.ones(3, np.float32))
    assert plain_array(stream.getvalue(), "f").tolist() == [1, 1, 1]
