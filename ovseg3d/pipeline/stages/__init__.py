"""How each stage of `runs.stages` works: a module for each."""
