"""The commands: where each lives, and what the overview says about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """Where a command lives and what the overview says about it."""

    module: str
    cls: str
    usage: str
    summary: str
    group: str


# In the order of work: this is the order of the overview.
COMMANDS: dict[str, Command] = {
    "prepare": Command(
        "prepare",
        "Prepare",
        "VIDEO|PHOTOS OUT",
        "Turn a phone video or photos into a scene folder.",
        "Capture",
    ),
    "synth": Command("synth", "Synth", "OUT", "Make a labelled synthetic room, offline.", "Capture"),
    "info": Command("info", "Info", "SCENE", "Say what a scene holds and what looks wrong.", "Capture"),
    "train": Command("train", "Train", "SCENE...", "Fit a radiance field, and learn what is where.", "Train"),
    "view": Command("view", "View", "SCENE|RUN", "Look, ask and point in the browser.", "Ask"),
    "query": Command("query", "Query", "RUN PHRASE...", "Ask where something is.", "Ask"),
    "segment": Command("segment", "Segment", "RUN", "Label every view with phrases, or with things.", "Ask"),
    "render": Command(
        "render",
        "Render",
        "RUN",
        "Render views or a camera path: images or MP4.",
        "Look and measure",
    ),
    "export": Command(
        "export",
        "Export",
        "RUN",
        "Take away points, meshes, labels, a web page.",
        "Look and measure",
    ),
    "eval": Command("eval", "Eval", "RUN", "Measure pictures, depth and meaning.", "Look and measure"),
    "doctor": Command("doctor", "Doctor", "", "Say what this machine can run, and why.", "This machine"),
}
