from .pipeline.many import train_scenes as train_scenes
from .pipeline.train import train_scene as train_scene
from .runs.config import Config as Config
from .scene.load import load_scene as load_scene
from .session import Run as Run
from .session import load as load

__version__: str
