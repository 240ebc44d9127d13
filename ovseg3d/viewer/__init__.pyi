from .app import Viewer as Viewer
from .exhibit import Exhibit as Exhibit
from .exhibit import open_exhibit as open_exhibit
