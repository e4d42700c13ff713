"""Models that cancel the echo of a loudspeaker."""
