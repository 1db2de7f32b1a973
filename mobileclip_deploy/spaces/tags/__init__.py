"""Labels taught by a few pictures: rows of a classifier, "none of these", and thresholds."""
