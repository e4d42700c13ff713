"""Models that separate talkers."""
