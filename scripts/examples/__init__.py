"""Short numbered examples of the Python API; `tests/scripts/test_examples.py` runs them."""
