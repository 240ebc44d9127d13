"""What user code calls: `load(path)` gives a `Run` that answers phrases and writes exports.

run = ovseg3d.load("outputs/playroom/latest")
run.query("a red chair").instances
run.export("cloud,html")
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from ovseg3d.export.run import export_run
from ovseg3d.limits import NO_TRUST, Trust
from ovseg3d.query.engine import Answer, QueryEngine
from ovseg3d.runs.folder import RunFolder, open_run


class Run(RunFolder):
    """A trained run that can be asked.

    The encoder and the views that were rendered are kept for the next question.
    """

    def query(self, phrase: str, **options: Any) -> Answer:
        """Where something is.

        Args:
            phrase: free text, such as "a red chair".
            options: those of `query.engine.QueryEngine.ask`: `views`, `negatives`, `threshold`, `camera`...

        Raises:
            RunError: the run has no semantics.
            ConfigError: an unknown view, or a phrase without words.
        """
        return self._engine.ask([phrase], **options)[0]

    def export(self, what: str = "cloud", folder: Path | None = None, **options: Any) -> list[Path]:
        """Write the surface, labels or images for other programs.

        Args:
            what: some of `export.WHAT`, with commas.
            folder: where to; by default the run's exports/.
            options: fields of `export.run.ExportOptions`; and `report`, `stop`.

        Returns:
            The files, in the order of `what`.

        Raises:
            ConfigError: an unknown kind or option, or one that does not fit this run.
            RunError: labels or instances of a run without semantics.
            OutputError: the folder cannot be written to; a file is whole or not there.
        """
        return export_run(self, what, folder, **options)

    @cached_property
    def _engine(self) -> QueryEngine:
        return QueryEngine(self)


def load(path: Path | str, trust: Trust = NO_TRUST) -> Run:
    """Open a run.

    Args:
        path: the run's folder or a file in it, a scene's folder in `outputs` or its `latest`, or a scene itself; the
            last two mean the newest run.
        trust: what the user allows the run and its capture to ask for.

    Raises:
        RunError: there is no run, or what is there is cut, of another version, or not what it should be.
    """
    return Run(**vars(open_run(path, trust)))
