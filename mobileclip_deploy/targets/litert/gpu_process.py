"""Process that compiles a .tflite for the GPU and runs it, separate because a driver may crash or never return.

python -m mobileclip_deploy.targets.litert.gpu_process FILE [INPUTS.npy ANSWERS.npy SECONDS]

Prints `compiled`, then `answered` after every answer written to ANSWERS.npy; after SECONDS it runs no further input.
"""

import sys
import time

import numpy as np

COMPILED, ANSWERED = "compiled", "answered"


def main() -> None:
    """Compiles the file, and answers if inputs are given."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, GpuOptions, Options

    # All options, as the runtime requires. The CPU is included, as in apps: it runs what the GPU does not support.
    both = HardwareAccelerator.GPU | HardwareAccelerator.CPU
    options = Options(hardware_accelerators=both, cpu_options=CpuOptions(num_threads=1), gpu_options=GpuOptions())
    model = CompiledModel.from_file(sys.argv[1], options=options)
    print(COMPILED, flush=True)
    if len(sys.argv) < 3:
        return
    (key,) = model.get_signature_list()
    ((source, source_info),) = model.get_input_tensor_details(key).items()
    ((result, result_info),) = model.get_output_tensor_details(key).items()
    input_buffer, answer = (
        model.create_input_buffer_by_name(key, source),
        model.create_output_buffer_by_name(key, result),
    )
    rows, until, answers = np.load(sys.argv[2]), time.monotonic() + float(sys.argv[4]), []
    for row in rows:
        input_buffer.write(np.ascontiguousarray(row[None].astype(source_info["dtype"])))
        model.run_by_name(key, {source: input_buffer}, {result: answer})
        answers.append(answer.read(int(np.prod(result_info["shape"])), np.float32).reshape(-1))
        np.save(sys.argv[3], np.stack(answers))
        print(ANSWERED, flush=True)
        if time.monotonic() > until:
            break


if __name__ == "__main__":
    main()
