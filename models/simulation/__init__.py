"""Simulation: mixtures of speech, noise and rooms, made while they are needed, from a seed."""
