from .grouping import InstanceConfig as InstanceConfig
from .grouping import Instances as Instances
from .grouping import find_instances as find_instances
from .records import Instance as Instance
from .records import InstancePoints as InstancePoints
from .records import OrientedBox as OrientedBox
from .records import fit_box as fit_box
