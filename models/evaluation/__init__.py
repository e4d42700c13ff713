"""Evaluation: how good the output of a system is, on the fixed validation set or on anybody's recordings."""
