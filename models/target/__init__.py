"""Models that keep one chosen talker, and those that learn a voice from a noisy look."""
