"""Process that runs Qualcomm's compiler and emulator, separate because they print, may crash, and do not free memory.

python -m mobileclip_deploy.targets.qnn.process compile SOURCE.onnx ARCHITECTURE SOC on|off TOKENS
python -m mobileclip_deploy.targets.qnn.process answer MODEL.onnx ARCHITECTURE SOC INPUTS.npy ANSWERS.npz

`compile` writes COMPILED, BINARY, TRACE and SPILLED to the current folder. `on`: the CPU may take operations that the
NPU does not support. TOKENS: size of a free second dimension, or 0. FAILED is followed by the runtime's error.
"""

import ctypes
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mobileclip_deploy.base.interpreter import restart

COMPILED, BINARY, TRACES, TRACE, SPILLED = "compiled.onnx", "compiled_qnn.bin", ".", "qnn_op_trace.json", "spilled.txt"
FAILED = "refused: "
ERRORS_ONLY = 3
THIRD = 3  # version of the records of Qualcomm's system library
ASKED, FIXED = 0xFFFFFFFF, 0x0040000  # Linux: personality(2), ADDR_NO_RANDOMIZE


def main() -> None:
    """Compiles, or answers; exits with 1 if the runtime raised."""
    task, path, architecture, soc, *more = sys.argv[1:]
    try:
        if task == "compile":
            _same_addresses()
            compile_context(path, architecture, soc, more[0] == "on", int(more[1]))
        else:
            results: dict[str, Any] = answers(path, architecture, soc, np.load(more[0]))
            np.savez(more[1], **results)
    except Exception as error:  # the runtime's own exceptions have no common base
        print(FAILED + str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(1)


def compile_context(path: str, architecture: str, soc: str, cpu: bool, tokens: int) -> None:
    """Writes a model with a fixed batch of one as a context binary of one chip. `tokens`: see TOKENS above."""
    traced = {"enable_framework_op_trace": "1", "framework_op_trace_dir": TRACES}
    options = options_for(architecture, soc, traced, cpu)
    if tokens:
        options.add_free_dimension_override_by_name("tokens", tokens)
    for name, value in (("enable", "1"), ("embed_mode", "0"), ("file_path", COMPILED)):
        options.add_session_config_entry(f"ep.context_{name}", value)
    open_session(path, options)
    Path(SPILLED).write_text(str(spilled(Path(BINARY).read_bytes())), encoding="utf-8")


def spilled(binary: bytes) -> int:
    """Returns the most bytes that a graph of a binary spills out of the NPU's memory, as read by Qualcomm's system
    library.

    Structures: QnnSystemInterface.h, QnnSystemContext.h, QnnHtpSystemContext.h. Returns 0 for records of another
    version than the third. The provider's own option is not used: with it the same model gives other bytes each time.
    """
    import onnxruntime_qnn

    library = ctypes.CDLL(str(Path(onnxruntime_qnn.get_library_path()).with_name("libQnnSystem.so")))
    providers, count = ctypes.POINTER(ctypes.c_void_p)(), ctypes.c_uint32()
    library.QnnSystemInterface_getProviders(ctypes.byref(providers), ctypes.byref(count))
    create, read = (ctypes.c_void_p.from_address(int(providers[0] or 0) + place).value or 0 for place in (32, 40))
    handle, record, size = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64()
    pointer = ctypes.POINTER(ctypes.c_void_p)
    ctypes.CFUNCTYPE(ctypes.c_uint64, pointer)(create)(ctypes.byref(handle))
    call = ctypes.CFUNCTYPE(
        ctypes.c_uint64, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, pointer, ctypes.c_void_p
    )
    call(read)(handle, binary, len(binary), ctypes.byref(record), ctypes.byref(size))

    def number(kind: str, place: int) -> int:
        value: int = struct.unpack(kind, ctypes.string_at(place, struct.calcsize(kind)))[0]
        return value

    info, sizes = int(record.value or 0), [0]
    if info and number("<I", info) == THIRD:
        graphs = number("<Q", info + 104)
        for graph in range(graphs, graphs + 80 * number("<I", info + 96), 80):
            blob = number("<Q", graph + 72) if number("<I", graph) == THIRD else 0
            sizes.append(number("<Q", blob + 8) if blob and number("<I", blob) == 1 else 0)
    return max(sizes)


def answers(path: str, architecture: str, soc: str, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Returns all results of a context binary, or of a model that is compiled first, to inputs [N, ...], by name. Each
    input is run alone, [1, ...]."""
    options = options_for(architecture, soc, {}, True)
    options.add_free_dimension_override_by_name("tokens", inputs.shape[1])  # a model of pixels has no such dimension
    session = open_session(path, options)
    (source,), names = session.get_inputs(), [result.name for result in session.get_outputs()]
    rows = [session.run(names, {source.name: row[None]}) for row in inputs]
    return {name: np.concatenate([row[index] for row in rows]) for index, name in enumerate(names)}


def _same_addresses() -> None:
    """Restarts the process on one core and without random addresses, which affect the compiler's order and padding. If
    the system refuses, binaries differ in some bytes of padding."""
    if sys.platform == "linux":  # the emulator's only system
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    personality = ctypes.CDLL(None).personality
    now = personality(ASKED)
    if not now & FIXED and personality(now | FIXED) != -1:
        restart()


def options_for(architecture: str, soc: str, more: dict[str, str], cpu: bool) -> Any:
    """Returns ONNX Runtime's options for a chip. `more` are further options of the provider; `cpu` allows the CPU for
    operations that the NPU does not support."""
    import onnxruntime
    import onnxruntime_qnn

    name = onnxruntime_qnn.get_ep_name()
    if not any(device.ep_name == name for device in onnxruntime.get_ep_devices()):
        onnxruntime.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    # float16 needs the chip; the option has no effect on models without float16.
    chip = {"htp_arch": architecture, "soc_model": soc, "enable_htp_fp16_precision": "1"}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.add_free_dimension_override_by_name("batch", 1)
    options.add_provider_for_devices(devices[:1], {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), **chip, **more})
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "0" if cpu else "1")
    return options


def open_session(path: str, options: Any) -> Any:
    """Returns a session of ONNX Runtime with a model."""
    import onnxruntime

    return onnxruntime.InferenceSession(path, options)


if __name__ == "__main__":
    main()
