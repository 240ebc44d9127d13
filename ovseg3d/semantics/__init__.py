"""Meaning on a field's surface: lifted features, a scene's basis, relevancy, things; alignment losses and refinement.

What a run keeps is a `SemanticScene`. `lift_reduced`, `smooth.smooth` and `find_instances` make it in seconds. Other
methods teach a `feature_field.FeatureField` on `gather`ed rays (`refine`, `lerf`) and ask it at the same points; which
does what is told in `pipeline.methods`. Functions that share their module's name (lift, smooth, relevancy) are imported
from there.
"""

from ovseg3d.semantics.basis import Basis, fit_basis
from ovseg3d.semantics.instances import InstanceConfig, Things, find_instances
from ovseg3d.semantics.lift import LiftConfig, Lifted, lift_reduced
from ovseg3d.semantics.relevancy import CANONICAL, cosines, label
from ovseg3d.semantics.scene import EncoderFacts, Places, SemanticScene, load_semantics, save_semantics
from ovseg3d.semantics.smooth import SmoothConfig
from ovseg3d.semantics.things import Instance, OrientedBox, fit_box, instances_of

__all__ = [
    "CANONICAL",
    "Basis",
    "EncoderFacts",
    "Instance",
    "InstanceConfig",
    "LiftConfig",
    "Lifted",
    "OrientedBox",
    "Places",
    "SemanticScene",
    "SmoothConfig",
    "Things",
    "cosines",
    "find_instances",
    "fit_basis",
    "fit_box",
    "instances_of",
    "label",
    "lift_reduced",
    "load_semantics",
    "save_semantics",
]
