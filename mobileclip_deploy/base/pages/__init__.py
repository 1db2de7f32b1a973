"""Pages served to browsers, and the ONNX Runtime that they load."""
