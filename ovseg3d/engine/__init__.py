"""The generic loop: steps, time, rates, checkpoints and events. It is independent of the stages."""

from ovseg3d.engine.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from ovseg3d.engine.clock import Clock
from ovseg3d.engine.events import Event, Report, ignore
from ovseg3d.engine.gpu import encoder_precision, in_batches, memory_limit, out_of_memory_error, tf32_matmul
from ovseg3d.engine.loop import CheckpointFolder, Outcome, Stage, Start, run_stage
from ovseg3d.engine.stopping import until_stopped
from ovseg3d.engine.workers import Workers

__all__ = [
    "Checkpoint",
    "CheckpointFolder",
    "Clock",
    "Event",
    "Outcome",
    "Report",
    "Stage",
    "Start",
    "Workers",
    "encoder_precision",
    "ignore",
    "in_batches",
    "latest_checkpoint",
    "load_checkpoint",
    "memory_limit",
    "out_of_memory_error",
    "run_stage",
    "save_checkpoint",
    "tf32_matmul",
    "until_stopped",
]
