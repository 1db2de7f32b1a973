"""Qualcomm's compiler and emulator, in a process of its own: they print, may die, and keep what they allocate.

python -m mobileclip_deploy.targets.qnn.process compile SOURCE.onnx ARCHITECTURE SOC on|off TOKENS
python -m mobileclip_deploy.targets.qnn.process answer MODEL.onnx ARCHITECTURE SOC INPUTS.npy ANSWERS.npz

`compile` leaves COMPILED, BINARY, TRACE and SPILLED in the current folder; `on`: the CPU may take what the NPU
does not; TOKENS: what a free second dimension is fixed to, or 0. Behind FAILED stands what the runtime raised.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.base.interpreter import begin_anew

COMPILED, BINARY, TRACES, TRACE, SPILLED = "compiled.onnx", "compiled_qnn.bin", ".", "qnn_op_trace.json", "spilled.txt"
FAILED = "refused: "
ERRORS_ONLY = 3
THIRD = 3  # form of what Qualcomm's system library tells
ASKED, FIXED = 0xFFFFFFFF, 0x0040000  # Linux: personality(2), ADDR_NO_RANDOMIZE


def main() -> None:
    """Compile, or answer; ends with 1 where the runtime raised."""
    task, path, architecture, soc, *more = sys.argv[1:]
    try:
        if task == "compile":
            _same_addresses()
            compile_context(path, architecture, soc, more[0] == "on", int(more[1]))
        else:
            found: dict[str, Any] = answers(path, architecture, soc, np.load(more[0]))
            np.savez(more[1], **found)
    except Exception as error:  # the runtime's own exceptions have no common base
        print(FAILED + str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(1)


def compile_context(path: str, architecture: str, soc: str, cpu: bool, tokens: int) -> None:
    """Write a model with a fixed batch of one as a context binary of one chip. `tokens`: see TOKENS above."""
    traced = {"enable_framework_op_trace": "1", "framework_op_trace_dir": TRACES}
    options = options_for(architecture, soc, traced, cpu)
    if tokens:
        options.add_free_dimension_override_by_name("tokens", tokens)
    for name, value in (("enable", "1"), ("embed_mode", "0"), ("file_path", COMPILED)):
        options.add_session_config_entry(f"ep.context_{name}", value)
    open_session(path, options)
    if "," not in soc:  # of a binary for several chips the system library tells no sizes
        Path(SPILLED).write_text(str(spilled(Path(BINARY).read_bytes())), encoding="utf-8")


def spilled(binary: bytes) -> int:
    """Bytes that the graphs of a binary spill out of the NPU's memory, at most, as Qualcomm's system library reads them
    (QnnSystemInterface.h, QnnSystemContext.h, QnnHtpSystemContext.h); 0 of a form that is not the third.

    The provider's own option for it is not taken: with it the same model gives other bytes each time.
    """
    import onnxruntime_qnn

    library = ctypes.CDLL(str(Path(onnxruntime_qnn.get_library_path()).with_name("libQnnSystem.so")))
    providers, count = ctypes.POINTER(ctypes.c_void_p)(), ctypes.c_uint32()
    library.QnnSystemInterface_getProviders(ctypes.byref(providers), ctypes.byref(count))
    create, read = (ctypes.c_void_p.from_address(int(providers[0] or 0) + place).value or 0 for place in (32, 40))
    handle, told, size = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64()
    pointer = ctypes.POINTER(ctypes.c_void_p)
    ctypes.CFUNCTYPE(ctypes.c_uint64, pointer)(create)(ctypes.byref(handle))
    ask = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, pointer, ctypes.c_void_p)
    ask(read)(handle, binary, len(binary), ctypes.byref(told), ctypes.byref(size))

    def number(kind: str, place: int) -> int:
        found: int = struct.unpack(kind, ctypes.string_at(place, struct.calcsize(kind)))[0]
        return found

    info, found = int(told.value or 0), [0]
    if info and number("<I", info) == THIRD:
        graphs = number("<Q", info + 104)
        for graph in range(graphs, graphs + 80 * number("<I", info + 96), 80):
            blob = number("<Q", graph + 72) if number("<I", graph) == THIRD else 0
            found.append(number("<Q", blob + 8) if blob and number("<I", blob) == 1 else 0)
    return max(found)


def answers(path: str, architecture: str, soc: str, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """All results of a context binary, or of a model that is compiled here, to each input [1, ...] of [N, ...], by
    name."""
    options = options_for(architecture, soc, {}, True)
    options.add_free_dimension_override_by_name("tokens", inputs.shape[1])  # a model of pixels has no such dimension
    session = open_session(path, options)
    (source,), names = session.get_inputs(), [result.name for result in session.get_outputs()]
    rows = [session.run(names, {source.name: row[None]}) for row in inputs]
    return {name: np.concatenate([row[place] for row in rows]) for place, name in enumerate(names)}


def _same_addresses() -> None:
    """Start anew on one core and without random addresses, on which the compiler's order and its padding depend; where
    the system does not allow that, binaries differ in some bytes of padding."""
    if sys.platform == "linux":  # as the emulator is
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    personality = ctypes.CDLL(None).personality
    now = personality(ASKED)
    if not now & FIXED and personality(now | FIXED) != -1:
        begin_anew()


def options_for(architecture: str, soc: str, more: dict[str, str], cpu: bool) -> Any:
    """ONNX Runtime's options for a chip. `more`: of the provider; `cpu`: the CPU may take what the NPU does not."""
    import onnxruntime
    import onnxruntime_qnn

    name = onnxruntime_qnn.get_ep_name()
    if not any(device.ep_name == name for device in onnxruntime.get_ep_devices()):
        onnxruntime.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    # float16 needs to be told the chip; it says nothing where the model has none.
    own = {"htp_arch": architecture, "soc_model": soc, "enable_htp_fp16_precision": "1"}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.add_free_dimension_override_by_name("batch", 1)
    options.add_provider_for_devices(devices[:1], {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), **own, **more})
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "0" if cpu else "1")
    return options


def open_session(path: str, options: Any) -> Any:
    """ONNX Runtime with a model."""
    import onnxruntime

    return onnxruntime.InferenceSession(path, options)


if __name__ == "__main__":
    main()
