"""Foundations: files, progress, arguments, escaped text, interpreters and scheduling."""
