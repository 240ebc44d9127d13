"""The tabs of the panel. Each builds its own controls and handles them, and writes its part of `View`."""
