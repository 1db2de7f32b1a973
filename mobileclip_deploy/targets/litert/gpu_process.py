"""Compiles a .tflite for the GPU and asks it for answers, in a process of its own: a driver may die, or never return.

python -m mobileclip_deploy.targets.litert.gpu_process FILE [INPUTS.npy ANSWERS.npy SECONDS]

Prints `compiled`, then `answered` behind every answer that stands in ANSWERS.npy; after SECONDS it asks no more.
"""

from __future__ import annotations

import sys
import time

import numpy as np

COMPILED, ANSWERED = "compiled", "answered"


def main() -> None:
    """Compile, and answer where inputs are given."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, GpuOptions, Options

    # Whole options, as the runtime wants them; with the CPU, as apps ask for it: what the GPU does not take runs there.
    both = HardwareAccelerator.GPU | HardwareAccelerator.CPU
    options = Options(hardware_accelerators=both, cpu_options=CpuOptions(num_threads=1), gpu_options=GpuOptions())
    model = CompiledModel.from_file(sys.argv[1], options=options)
    print(COMPILED, flush=True)
    if len(sys.argv) < 3:
        return
    (key,) = model.get_signature_list()
    ((source, told),) = model.get_input_tensor_details(key).items()
    ((result, given),) = model.get_output_tensor_details(key).items()
    taken, answer = (
        model.create_input_buffer_by_name(key, source),
        model.create_output_buffer_by_name(key, result),
    )
    rows, until, answers = np.load(sys.argv[2]), time.monotonic() + float(sys.argv[4]), []
    for row in rows:
        taken.write(np.ascontiguousarray(row[None].astype(told["dtype"])))
        model.run_by_name(key, {source: taken}, {result: answer})
        answers.append(answer.read(int(np.prod(given["shape"])), np.float32).reshape(-1))
        np.save(sys.argv[3], np.stack(answers))
        print(ANSWERED, flush=True)
        if time.monotonic() > until:
            break


if __name__ == "__main__":
    main()
