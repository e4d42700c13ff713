"""Models that keep speech and remove the rest."""
