"""Trains and measures the shipped weights: the built-in CLIP and DINO, and the merge and selection models."""
