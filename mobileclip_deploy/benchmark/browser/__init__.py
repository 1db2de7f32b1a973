"""Benchmark of browsers. This machine serves a page that runs the job with onnxruntime-web."""
