"""Labels of a classifier, and the inputs that towers take."""
