"""Builds and tests for platforms other than this machine's, with zig as compiler and linker."""
