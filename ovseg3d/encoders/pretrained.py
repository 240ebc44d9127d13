"""Folders that transformers' `save_pretrained` wrote, with a model and its image processor: by path or by hub id."""

import os
from pathlib import Path

from ovseg3d.encoders import hub
from ovseg3d.encoders.folders import check_model_folder
from ovseg3d.encoders.weights import hash_files
from ovseg3d.errors import EncoderError
from ovseg3d.files import expand

_SETTINGS = ("config.json", "preprocessor_config.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def find_pretrained(name: str, *, flag: str, example: str, fix: str) -> tuple[Path, str]:
    """The folder and the short name of a model by hub id or path; files of the hub are downloaded if needed.

    Args:
        name: the id or the path.
        flag: the flag that names models of this kind, for errors.
        example: a value of the flag that is a folder, for errors.
        fix: what to do if there is no such folder.

    Raises:
        EncoderError: it is not available.
    """
    folder = expand(name, EncoderError)
    if os.path.isdir(folder):
        return folder, folder.resolve().name
    if name.count("/") != 1 or name.startswith((".", "~", "/")):
        raise EncoderError(f"There is no folder {name}", fix=fix)
    found = [
        hub.fetch(name, files, flag=flag, example=example) for files in (*((file,) for file in _SETTINGS), _WEIGHTS)
    ]
    return found[0].parent, name


def check_pretrained(folder: Path, name: str, fix: str) -> tuple[Path, str]:
    """The weights in a folder, and the hash of all that determines the model; it does not depend on names.

    Args:
        folder: of the model.
        name: of the model, for errors.
        fix: what to do if a file is missing.

    Raises:
        EncoderError: a file is missing, or not safe to load (see `check_model_folder`).
    """
    weights = next((folder / file for file in _WEIGHTS if (folder / file).is_file()), None)
    absent = [file for file in _SETTINGS if not (folder / file).is_file()]
    if weights is None or absent:
        missing = ", ".join([*absent, *([] if weights else [_WEIGHTS[0]])])
        raise EncoderError(f"The folder of {name} lacks {missing}", where=folder, fix=fix)
    check_model_folder(folder, weights)
    return weights, hash_files([weights, *(folder / file for file in _SETTINGS)])
