"""A bundle of Immich's layout asked through ONNX Runtime's provider for OpenVINO, as the service asks it: run with that
package's own folder ahead of ours, since both are called `onnxruntime`.

python tests/artifacts/layouts/immich_openvino.py FOLDER INPUTS.npz ANSWERS.npz

Options are those of immich-app/immich, machine-learning/immich_ml/sessions/ort.py, at commit
042e5d5bda11f667d8832400db01eb8dfa84163c. What it does not do: an operation that OpenVINO leaves to ONNX Runtime's own
CPU ends the session.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

PROVIDER = "OpenVINOExecutionProvider"


def main() -> None:
    """Answer `image` [N, 3, S, S] and `text` [N, L], one row at a time."""
    folder, given, found = map(Path, sys.argv[1:])
    inputs = np.load(given)
    answers = {}
    for name, part in (("image", "visual"), ("text", "textual")):
        with tempfile.TemporaryDirectory() as cache:
            options = onnxruntime.SessionOptions()
            options.add_session_config_entry("session.set_denormal_as_zero", "1")
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            for dimension in ("batch", "DynamicDimension.0", "None"):
                options.add_free_dimension_override_by_name(dimension, 1)
            session = onnxruntime.InferenceSession(
                str(folder / part / "model.onnx"),
                options,
                providers=[PROVIDER],
                provider_options=[{"device_type": "CPU", "precision": "FP32", "cache_dir": cache}],
            )
            assert session.get_providers()[0] == PROVIDER
            answers[name] = np.concatenate([session.run(None, {name: row[None]})[0] for row in inputs[name]])
    np.savez(found, version=onnxruntime.__version__, **answers)


if __name__ == "__main__":
    main()
