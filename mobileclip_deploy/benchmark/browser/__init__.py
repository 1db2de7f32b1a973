"""Browsers as devices: a page that runs the job with onnxruntime-web, served to it from this machine alone."""
