from .cloud import surface_cloud as surface_cloud
from .examples import Example as Example
from .examples import object_example as object_example
from .examples import room_example as room_example
from .kinds import KINDS as KINDS
from .make import synthesise as synthesise
from .write import Views as Views
from .write import Written as Written
