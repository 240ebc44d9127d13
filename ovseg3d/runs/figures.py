"""Names of the figures in metrics.json that evaluation writes: stale once the semantics they are of are replaced."""

EVALUATED = {
    "miou": ("index", "held-out", "miou"),
    "accuracy": ("index", "held-out", "accuracy"),
    "point_miou": ("points", "scene", "point_miou"),
    "instance_recall_25": ("instances", "scene", "recall_25"),
    "instance_recall_50": ("instances", "scene", "recall_50"),
    "views_agree": ("consistency", "held-out", "all_agree"),
    "absence_false_alarm_rate": ("absence", "scene", "false_alarm_rate"),
}
"""Key in metrics.json: its protocol, group, and name in that group."""
