"""What commands on many scenes and on many runs share: the flags of workers, the executor, and the exit code."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ovseg3d.errors import ConfigError, Ovseg3dError

if TYPE_CHECKING:
    from ovseg3d.pipeline.batch import TaskReport
    from ovseg3d.pipeline.executors import Executor


@dataclass(frozen=True)
class Many:
    """Where many scenes or runs are worked on."""

    on: Annotated[str | None, tyro.conf.arg(metavar="ray[:ADDRESS]")] = None
    """Work on a Ray cluster: the one at ADDRESS, by default the one that runs here or a new one."""
    workers: int | None = None
    """Number of scenes (or runs) at a time, each in a process; with --on ray by default as many as fit."""
    cpus_per_scene: float | None = None
    """CPUs that a scene (or a run) reserves on Ray, by default 1, and its threads; without Ray by default the cores
    divided by --workers."""
    gpus_per_scene: float | None = None
    """GPUs that a scene (or a run) reserves on Ray, by default 0.25 if the cluster has any."""

    @property
    def asked(self) -> bool:
        """Whether one of the flags was given."""
        return self != Many()

    def executor(self) -> "Executor":
        """The executor that the flags ask for. Raises ConfigError."""
        from ovseg3d.pipeline import OnRay, Processes, Sequential

        on, workers, cpus, gpus = self.on, self.workers, self.cpus_per_scene, self.gpus_per_scene
        if workers is not None and workers < 1:
            raise ConfigError(f"--workers must be at least 1, not {workers}", fix="--workers 2")
        for flag, value, least in (("--cpus-per-scene", cpus, 0.01), ("--gpus-per-scene", gpus, 0.0)):
            if value is not None and not least <= value <= 1024:
                raise ConfigError(f"{flag} must be from {least:g} to 1024, not {value:g}", fix=f"{flag} 1")
        if on is not None:
            name, _, address = on.partition(":")
            if name != "ray":
                fix = "--on ray, or --on ray:ADDRESS for a cluster elsewhere"
                raise ConfigError(f"There is no --on {on!r}", fix=fix)
            return OnRay(address or None, workers, 1.0 if cpus is None else cpus, gpus)
        if gpus is not None:
            raise ConfigError(
                "--gpus-per-scene would have no effect: only Ray shares out GPUs", fix="use it with --on ray"
            )
        if workers is None and cpus is not None:
            raise ConfigError("--cpus-per-scene would have no effect", fix="use it with --workers or --on ray")
        return Sequential() if workers is None else Processes(workers, None if cpus is None else max(1, round(cpus)))


ManyFlags = Annotated[Many, tyro.conf.arg(name="")]


def counted(reports: "Sequence[TaskReport]") -> str:
    """How many ended how, such as "3 done, 1 failed"."""
    states = [report.status for report in reports]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def exit_code(reports: "Sequence[TaskReport]", console: Any, kept: bool = True) -> int:
    """130 if something is left to do, else 1 for a bug, 2 for what the user can mend, 0.

    Args:
        reports: of all items.
        console: where to say that work was stopped.
        kept: whether a ledger says what is done.
    """
    states = {report.status for report in reports}
    if states & {"interrupted", "not started"}:
        console.print("Stopped. The same command goes on from here." if kept else "Stopped.")
        return 130
    if any(report.error is not None and not isinstance(report.error, Ovseg3dError) for report in reports):
        return 1
    return 2 if "failed" in states else 0
