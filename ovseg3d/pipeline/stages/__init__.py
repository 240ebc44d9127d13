"""Implementation of the stages of `runs.stages`, one module each."""
