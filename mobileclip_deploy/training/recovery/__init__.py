"""Recovery of the accuracy lost to aggressive quantization: towers trained on the grid of a precision."""
