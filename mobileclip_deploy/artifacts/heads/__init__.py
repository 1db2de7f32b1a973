"""Labels behind an image tower, and the inputs that towers take."""
