"""What train_clip.py, train_dino.py and evaluate_encoders.py share. Nothing of the package imports it."""
