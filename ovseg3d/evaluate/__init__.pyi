from .views import Evaluation as Evaluation
from .views import evaluate as evaluate
