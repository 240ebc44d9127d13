"""The table of commands: module, class, and text for the overview."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """Module and class of a command, and its text in the overview."""

    module: str
    cls: str
    usage: str
    summary: str
    group: str


# In the order of work, which is the order of the overview.
COMMANDS: dict[str, Command] = {
    "prepare": Command(
        "prepare",
        "Prepare",
        "VIDEO|PHOTOS OUT",
        "Turn a phone video or photos into a scene folder.",
        "Capture",
    ),
    "synth": Command("synth", "Synth", "OUT", "Make a labelled synthetic room, offline.", "Capture"),
    "info": Command("info", "Info", "SCENE", "Describe a scene and check it for problems.", "Capture"),
    "train": Command("train", "Train", "SCENE...", "Fit a radiance field and learn its semantics.", "Train"),
    "view": Command("view", "View", "SCENE|RUN", "View, query and select in the browser.", "Query"),
    "query": Command("query", "Query", "RUN PHRASE...", "Find where something is, by free text.", "Query"),
    "calibrate": Command("calibrate", "Calibrate", "RUN", "Fit presence to a few yes and no answers.", "Query"),
    "detect": Command("detect", "Detect", "CLOUD|RUN", "Put named, oriented boxes around objects.", "Query"),
    "pose": Command("pose", "Pose", "PHOTO|CLOUD|RUN", "Tell which way objects face.", "Query"),
    "segment": Command("segment", "Segment", "RUN", "Label every view with phrases or instances.", "Query"),
    "render": Command(
        "render",
        "Render",
        "RUN",
        "Render views or a camera path: images or MP4.",
        "Render and measure",
    ),
    "export": Command(
        "export",
        "Export",
        "RUN",
        "Export points, meshes, labels, a web page.",
        "Render and measure",
    ),
    "eval": Command("eval", "Eval", "RUN", "Measure images, depth and semantics.", "Render and measure"),
    "name": Command("name", "Name", "FILE...", "Rank names for shapes without colour.", "Shapes"),
    "find": Command("find", "Find", "FOLDER PHRASE", "Find shapes in a folder by text, picture or shape.", "Shapes"),
    "doctor": Command("doctor", "Doctor", "", "Report what this machine can run, and why.", "This machine"),
}
