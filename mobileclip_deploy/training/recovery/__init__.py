"""Recovery of what aggressive quantization loses: towers trained on the grid of a precision."""
