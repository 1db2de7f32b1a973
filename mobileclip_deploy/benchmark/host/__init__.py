"""This machine as a device: one process per turn, so that no candidate's threads, caches or memory reach another."""
