"""This machine as a device: one process a turn, so that no candidate's threads, caches or memory reach another."""
