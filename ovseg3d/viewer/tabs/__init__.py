"""The tabs of the panel. Each builds and handles its own controls, and writes its part of `View`."""
