from .app import Viewer as Viewer
from .shared_scene import SharedScene as SharedScene
from .shared_scene import open_shared_scene as open_shared_scene
