"""What each operation of one inference takes: the events of LiteRT's own profiler, by the C interface of its library.

Its Python package does not give them. Names, types and numbers are those of litert/c/*.h in google-ai-edge/LiteRT,
whose structs are called ABI stable; `android_harness/litert/litert.hpp` declares the same functions for phones.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets.benchmarking import KernelTime, by_kernel
from mobileclip_deploy.targets.quiet import hold_back

__all__ = ["operator_times"]

LIBRARIES = ("libLiteRt.so", "libLiteRt.dylib", "libLiteRt.dll")
CPU = 1  # LiteRtHwAccelerators
WRITE = 1  # LiteRtTensorBufferLockMode
FIRST = ctypes.c_size_t(0)
KERNELS = (1 << 1, 1 << 3)
"""LiteRtProfilerEventType: an operator in LiteRT's own kernels, and one of what XNNPACK took."""
INFERENCES = 3
"""The last one counts."""

_Release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
KEPT = _Release(lambda _: None)
"""For texts that Python owns."""


class _TensorType(ctypes.Structure):  # LiteRtRankedTensorType
    _fields_ = (
        ("element", ctypes.c_int32),
        ("rank", ctypes.c_uint32),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )


class _Event(ctypes.Structure):  # ProfiledEventData
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("type", ctypes.c_int32),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int32),
    )


def operator_times(path: Path, values: npt.NDArray[Any], threads: int) -> tuple[KernelTime, ...]:
    """What the kernels of one inference on the CPU take. LiteRT counts each call in whole microseconds.

    Args:
        values: the input [1, ...], in the type of the file's.

    Raises:
        NotRun: the package has no such library here, or one without the interface.
    """
    with hold_back(), ExitStack() as stack:
        return by_kernel(_profiled(_Library(), stack, path, np.ascontiguousarray(values), threads))


class _Library:
    """Calls by name; what is not 0 is an error."""

    def __init__(self) -> None:
        self._library = _opened()

    def __call__(self, name: str, *arguments: Any) -> None:
        status = self._of(name)(*arguments)
        if status != 0:
            raise NotRun(f"LiteRT's profiler cannot be used: {name} failed (status {status})")

    def made(self, stack: ExitStack, name: str, *arguments: Any, release: str | None = None) -> ctypes.c_void_p:
        """What a call gives as its last argument, released with the stack if it is ours."""
        handle = ctypes.c_void_p()
        self(name, *arguments, ctypes.byref(handle))
        if release is not None:
            function = self._of(release)
            function.restype = None
            stack.callback(function, handle)
        return handle

    def _of(self, name: str) -> Any:
        try:
            return getattr(self._library, name)
        except AttributeError:
            raise NotRun(f"LiteRT's profiler cannot be used: its library has no {name}") from None


@cache
def _opened() -> ctypes.CDLL:
    found = importlib.util.find_spec("ai_edge_litert")
    folders = found.submodule_search_locations if found else None
    for file in (Path(folder) / name for folder in folders or () for name in LIBRARIES):
        if file.exists():
            return ctypes.CDLL(str(file))
    raise NotRun("LiteRT's package has no library for its profiler here")


def _profiled(
    library: _Library, stack: ExitStack, path: Path, values: npt.NDArray[Any], threads: int
) -> Iterator[tuple[str, int]]:
    """(kernel, nanoseconds) of each call in the last inference."""
    environment = library.made(stack, "LiteRtCreateEnvironment", 0, None, release="LiteRtDestroyEnvironment")
    file = str(path).encode()
    model = library.made(stack, "LiteRtCreateModelFromFile", environment, file, release="LiteRtDestroyModel")
    options = library.made(stack, "LiteRtCreateOptions", release="LiteRtDestroyOptions")
    library("LiteRtSetOptionsHardwareAccelerators", options, CPU)
    texts = {b"xnnpack": b"num_threads = %d\n" % threads, b"runtime_options_string": b"enable_profiling = true\n"}
    for name, text in texts.items():
        opaque = library.made(stack, "LiteRtCreateOpaqueOptions", name, ctypes.c_char_p(text), KEPT)
        library("LiteRtAddOpaqueOptions", options, opaque)  # which owns it from here on
    compiled = library.made(
        stack, "LiteRtCreateCompiledModel", environment, model, options, release="LiteRtDestroyCompiledModel"
    )
    source, result = (_port(library, stack, port, environment, model, compiled) for port in ("Input", "Output"))
    place = ctypes.c_void_p()
    library("LiteRtLockTensorBuffer", source, ctypes.byref(place), WRITE)
    ctypes.memmove(place, values.ctypes.data, values.nbytes)
    library("LiteRtUnlockTensorBuffer", source)
    profiler = library.made(stack, "LiteRtCompiledModelGetProfiler", compiled)
    one, ports = ctypes.c_size_t(1), (ctypes.byref(source), ctypes.byref(result))
    for _ in range(INFERENCES):
        library("LiteRtResetProfiler", profiler)
        library("LiteRtStartProfiler", profiler)
        library("LiteRtRunCompiledModel", compiled, FIRST, one, ports[0], one, ports[1])
        library("LiteRtStopProfiler", profiler)
    count = ctypes.c_int()
    library("LiteRtGetNumProfilerEvents", profiler, ctypes.byref(count))
    events = (_Event * count.value)()
    library("LiteRtGetProfilerEvents", profiler, count, events)
    for event in events:
        if event.type in KERNELS:
            yield event.tag.decode(errors="replace"), 1000 * event.elapsed_us


def _port(
    library: _Library,
    stack: ExitStack,
    port: str,
    environment: ctypes.c_void_p,
    model: ctypes.c_void_p,
    compiled: ctypes.c_void_p,
) -> ctypes.c_void_p:
    """Memory for the model's only input or output."""
    signature = library.made(stack, "LiteRtGetModelSignature", model, FIRST)
    tensor = library.made(stack, f"LiteRtGetSignature{port}TensorByIndex", signature, FIRST)
    wanted = library.made(stack, f"LiteRtGetCompiledModel{port}BufferRequirements", compiled, FIRST, FIRST)
    kind = _TensorType()
    library("LiteRtGetRankedTensorType", tensor, ctypes.byref(kind))
    make = "LiteRtCreateManagedTensorBufferFromRequirements"
    return library.made(stack, make, environment, ctypes.byref(kind), wanted, release="LiteRtDestroyTensorBuffer")
