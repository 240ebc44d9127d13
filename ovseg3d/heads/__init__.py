"""Learned heads on point clouds: arrays in, records out. They know no run.

`detection` finds boxes and names in a room, `pose` says which way objects face, `naming` names a shape without its
colours.
"""
