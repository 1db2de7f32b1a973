"""Instruments that several checks use."""
