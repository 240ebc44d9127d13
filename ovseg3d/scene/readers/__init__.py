"""Readers of capture formats: from a folder to a `raw.RawCapture`, which is still unchecked. `formats` chooses."""
