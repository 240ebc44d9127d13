"""`--backend tcnn`: tinycudann's grid and networks, nerfacc's marching; compositing and the other operators in Warp."""

from ovseg3d.field.tcnn.backend import TcnnBackend

__all__ = ["TcnnBackend"]
