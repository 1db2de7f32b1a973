"""Qualcomm's compiler and emulator, in a process of its own: they print, may die, and keep what they allocate.

python -m mobileclip_deploy.targets.qnn.process compile SOURCE.onnx ARCHITECTURE SOC on|off
python -m mobileclip_deploy.targets.qnn.process answer MODEL.onnx ARCHITECTURE SOC INPUTS.npy ANSWERS.npz

`compile` leaves COMPILED, BINARY and TRACE in the current folder; `on`: the CPU may take what the NPU does not. Behind
FAILED stands what the runtime raised.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import numpy as np

from mobileclip_deploy.interpreter import begin_anew

COMPILED, BINARY, TRACES, TRACE = "compiled.onnx", "compiled_qnn.bin", ".", "qnn_op_trace.json"
FAILED = "refused: "
ERRORS_ONLY = 3
ASKED, FIXED = 0xFFFFFFFF, 0x0040000  # Linux: personality(2), ADDR_NO_RANDOMIZE


def main() -> None:
    """Compile, or answer; ends with 1 where the runtime raised."""
    task, path, architecture, soc, *more = sys.argv[1:]
    try:
        if task == "compile":
            _same_addresses()
            compile_context(path, architecture, soc, more[0] == "on")
        else:
            found: dict[str, Any] = answers(path, architecture, soc, np.load(more[0]))
            np.savez(more[1], **found)
    except Exception as error:  # the runtime's own exceptions have no common base
        print(FAILED + str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(1)


def compile_context(path: str, architecture: str, soc: str, cpu: bool) -> None:
    """Write a model with a fixed batch of one as a context binary of one chip."""
    traced = {"enable_framework_op_trace": "1", "framework_op_trace_dir": TRACES}
    if "," not in soc:  # of a binary for several chips the system library tells no sizes
        traced["enable_htp_spill_fill_buffer"] = "1"
    options = options_for(architecture, soc, traced, cpu)
    for name, value in (("enable", "1"), ("embed_mode", "0"), ("file_path", COMPILED)):
        options.add_session_config_entry(f"ep.context_{name}", value)
    open_session(path, options)


def answers(path: str, architecture: str, soc: str, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """All results of a context binary, or of a model that is compiled here, to each input [1, ...] of [N, ...], by
    name."""
    session = open_session(path, options_for(architecture, soc, {}, True))
    (source,), names = session.get_inputs(), [result.name for result in session.get_outputs()]
    rows = [session.run(names, {source.name: row[None]}) for row in inputs]
    return {name: np.concatenate([row[place] for row in rows]) for place, name in enumerate(names)}


def _same_addresses() -> None:
    """Start anew on one core and without random addresses, on which the compiler's order and its padding depend; where
    the system does not allow that, binaries differ in some bytes of padding."""
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
