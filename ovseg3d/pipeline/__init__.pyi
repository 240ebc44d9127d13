from .batch import TaskReport as TaskReport
from .executors import Executor as Executor
from .executors import Processes as Processes
from .executors import Sequential as Sequential
from .many import train_scenes as train_scenes
from .many_runs import use_runs as use_runs
from .on_ray import OnRay as OnRay
from .train import train_scene as train_scene
