from .poses import POSE_PROTOCOLS as POSE_PROTOCOLS
from .poses import PoseProtocol as PoseProtocol
from .poses import evaluate_poses as evaluate_poses
from .poses import pose_protocol as pose_protocol
from .poses import read_pose_predictions as read_pose_predictions
from .poses import write_pose_predictions as write_pose_predictions
from .views import Evaluation as Evaluation
from .views import evaluate as evaluate
