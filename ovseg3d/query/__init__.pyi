from .answer import Answer as Answer
from .engine import Asker as Asker
from .relevancy import CANONICAL as CANONICAL
from .relevancy import label as label
