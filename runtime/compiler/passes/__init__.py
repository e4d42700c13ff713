"""Passes: each takes a program and makes it cheaper, without changing what it computes."""
