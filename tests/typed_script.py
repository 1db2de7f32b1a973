"""A user's script, for a type checker: `make lint` holds that every public function has the types it should. Never run.

`assert_type` is equality of types; an ignored error that is none any more is an error as well.
"""

from typing import assert_type

import numpy as np
import numpy.typing as npt

import mobileclip_deploy as mcd

model = mcd.load_model("mobileclip_s0", "mobileclip_s0.pt")
assert_type(model, mcd.MobileCLIP)
bundle = mcd.export(model, "onnx", "fp16", "out")
assert_type(bundle, mcd.Bundle)
assert_type(mcd.export(model, "coreml", "smallest", max_drop=1, max_size=8), mcd.Bundle)
assert_type(mcd.export_all(model, force=True), tuple[mcd.Bundle, ...])
assert_type(mcd.export_all(model, ["onnx", "coreml"]), tuple[mcd.Bundle, ...])
assert_type(mcd.export_all(model, "onnx", ["fp32", "fp16"], labels=["cat", "dog"]), tuple[mcd.Bundle, ...])
mcd.export(model, "onnx", presicion="fp16")  # type: ignore[call-arg]
mcd.export(model, "onnx", force="yes")  # type: ignore[arg-type]
assert_type(mcd.verify(bundle), mcd.ParityReport)
assert_type(mcd.verify("out/nano-onnx-fp16"), mcd.ParityReport)
assert_type(mcd.verify([bundle, "out/nano-onnx-w8"]), tuple[mcd.ParityReport, ...])
assert_type(mcd.reparameterize(model, "folded.safetensors"), mcd.FoldReport)
runner: mcd.Runner = mcd.load_runner(bundle, "image")
assert_type(runner(mcd.preprocess(["cat.jpg"], bundle)), npt.NDArray[np.float32])
assert_type(mcd.tokenize("a cat"), npt.NDArray[np.int64])
mcd.load_runner(bundle, "both")  # type: ignore[arg-type]
found = mcd.classify(bundle, ["photos/"], "cat,dog", top=1, skip_bad=True)
assert_type(found, mcd.Classifications)
assert_type(found[0].label, str)
assert_type(mcd.embed(model, "photos/*.jpg", "photos.npy"), mcd.EmbeddingFile | mcd.IndexFile)
assert_type(mcd.evaluate(model), mcd.EvaluationResult)
assert_type(mcd.compare(["out/a", bundle]), mcd.Comparison)
assert_type(mcd.inspect("mobileclip_s0.pt"), mcd.Inspection)
assert_type(mcd.lint(bundle.path), tuple[mcd.LintReport, ...])
assert_type(mcd.compare_lint("a.mlpackage", "b.mlpackage"), tuple[mcd.LintComparison, ...])
assert_type(mcd.benchmark(bundle), mcd.BenchmarkOutcome)
assert_type(mcd.report("result.json"), tuple[mcd.BenchmarkResult, ...])
assert_type(mcd.devices(), tuple[mcd.DeviceListing, ...])
assert_type(mcd.doctor(), mcd.Diagnosis)
assert_type(mcd.variants(), tuple[mcd.Variant, ...])
assert_type(mcd.explain(bundle), tuple[mcd.Explanation, ...])
assert_type(mcd.convert("a.pt", "open_clip", "b.safetensors"), mcd.Conversion)
assert_type(mcd.reinforce("photos/", [model], "reinforced"), mcd.Reinforced)
assert_type(mcd.train("recipe.yaml", "run"), mcd.Trained)
