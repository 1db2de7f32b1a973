"""One writer at a time, of all processes and languages: Python's lock and Java's are of two kinds."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from java_client import JavaClient

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.search.index_file import Description, Header
from mobileclip_deploy.search.storage import Store
from mobileclip_deploy.search.writing import IndexWriter, create

if sys.platform == "linux":
    import fcntl

    WHOLE_FILE = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


@pytest.mark.slow  # it builds the Java package once more
def test_java_and_python_keep_each_other_out(client: JavaClient, tmp_path: Path) -> None:
    path = tmp_path / "library.mcdx"
    header = Header(Store("int8", 8, 1 / 127), Description(embedding_space="s", variant="nano"))
    create(path, header, [(["a"], [0], np.eye(8, dtype=np.float32)[:1])])
    with IndexWriter.open(path):
        assert client.run("mobileclip.Holds", path).stdout == "refused INDEX\n"
    class_path = os.pathsep.join(map(str, (client.jar, client.desktop, client.tests)))
    command = [client.java, "-cp", class_path, "mobileclip.Holds", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as java:
        # It has opened the file to read it, and closed it: a lock of the process would be lost by that.
        assert java.stdout.readline() == "held, 1 picture read\n"
        with pytest.raises(UsageError, match="run this again when it has ended"), IndexWriter.open(path):
            pass
        java.stdin.close()
    with IndexWriter.open(path) as (_, index):
        assert len(index) == 1


@pytest.mark.slow  # as the one above
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, whose locks of a descriptor Java sees")
def test_the_lock_file_of_an_output_keeps_java_out_and_is_javas_while_it_writes(
    client: JavaClient, tmp_path: Path
) -> None:
    path, lock = tmp_path / "library.mcdx", tmp_path / ".library.mcdx.partial.lock"
    header = Header(Store("int8", 8, 1 / 127), Description(embedding_space="s", variant="nano"))
    create(path, header, [(["a"], [0], np.eye(8, dtype=np.float32)[:1])])
    with lock.open("w+b") as stream:
        fcntl.fcntl(stream, fcntl.F_OFD_SETLK, WHOLE_FILE)
        assert client.run("mobileclip.Holds", path).stdout == "refused INDEX\n"
    class_path = os.pathsep.join(map(str, (client.jar, client.desktop, client.tests)))
    command = [client.java, "-cp", class_path, "mobileclip.Holds", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as java:
        assert java.stdout.readline() == "held, 1 picture read\n"
        with lock.open("r+b") as stream, pytest.raises(BlockingIOError):
            fcntl.fcntl(stream, fcntl.F_OFD_SETLK, WHOLE_FILE)
        java.stdin.close()
    assert not lock.exists()
