"""Heads answer what a field does not: arrays in, records out. They know no run.

`naming` names shapes without their colours.
"""
