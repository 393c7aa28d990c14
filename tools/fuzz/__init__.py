"""Fuzzing: every target for a chosen time, one for each processor at once. See README.md."""
