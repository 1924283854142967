"""Sampling that a verifier can repeat: recomputable noise, the choice of a token, its score."""
