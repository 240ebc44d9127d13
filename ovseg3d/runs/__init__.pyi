from .config import Config as Config
from .fields import restore as restore
from .folder import RunFolder as RunFolder
from .folder import create_run as create_run
from .folder import open_run as open_run
from .settings import make_config as make_config
