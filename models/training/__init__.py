"""Training: from simulated mixtures to weights that a bundle is made of, and their measurement."""
