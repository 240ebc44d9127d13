from .answer import Answer as Answer
from .engine import QueryEngine as QueryEngine
from .relevancy import CANONICAL as CANONICAL
from .relevancy import label as label
