"""Fuzzing: every target in turn, for a chosen time. See README.md."""
