"""Makes and measures the weights that ship: the built-in CLIP and DINO, and the networks of borders and objectness."""
