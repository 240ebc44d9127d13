"""Figures in metrics.json written by evaluation. They become stale when the run's semantics are replaced."""

EVALUATED = {
    "miou": ("index", "held-out", "miou"),
    "accuracy": ("index", "held-out", "accuracy"),
    "point_miou": ("points", "scene", "point_miou"),
    "instance_recall_25": ("instances", "scene", "recall_25"),
    "instance_recall_50": ("instances", "scene", "recall_50"),
    "views_agree": ("consistency", "held-out", "all_agree"),
    "absence_false_alarm_rate": ("absence", "scene", "false_alarm_rate"),
}
"""Key in metrics.json to its protocol, group, and name in that group."""
