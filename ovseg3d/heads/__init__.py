"""Learned heads: arrays in, records out. They know no run and no encoder."""
