"""Points of a PCD file (Point Cloud Library, version 0.7), as text or binary."""

import io

import numpy as np
from jaxtyping import Float

from ovseg3d.limits import MAX_POINTS

_KINDS = {"F": "f", "I": "i", "U": "u"}
_HEADER_LINES = 50
_LONGEST_LINE = 65_536


def read_pcd(file: io.BufferedIOBase) -> Float[np.ndarray, "points 3"]:
    """Positions of all points, unknown ones (NaN) included.

    Raises:
        ValueError: the header is wrong, the data is compressed or cut short, or there are more than `MAX_POINTS`.
    """
    header: dict[str, list[str]] = {}
    for _ in range(_HEADER_LINES):
        words = file.readline(_LONGEST_LINE).decode("ascii").split()
        if words and not words[0].startswith("#"):
            header[words[0].upper()] = words[1:]
        if "DATA" in header:
            break
    try:
        names, sizes, kinds = header["FIELDS"], header["SIZE"], header["TYPE"]
        counts = header.get("COUNT", ["1"] * len(names))
        points, how = int(header["POINTS"][0]), header["DATA"][0].lower()
        fields = [(n, f"<{_KINDS[k]}{int(s)}", (int(c),)) for n, s, k, c in zip(names, sizes, kinds, counts)]
    except (KeyError, IndexError) as error:
        raise ValueError(f"its header is broken ({error})") from error
    if missing := {"x", "y", "z"} - set(names):
        raise ValueError(f"it has no field {sorted(missing)[0]!r}")
    if not 0 <= points <= MAX_POINTS:
        raise ValueError(f"it promises {points} points; at most {MAX_POINTS} are read")
    if how == "ascii":
        text = io.StringIO(file.read().decode("ascii"))
        starts = np.cumsum([0, *map(int, counts)])
        columns = [int(starts[names.index(axis)]) for axis in "xyz"]
        table = np.loadtxt(text, ndmin=2, usecols=columns, max_rows=points)
        if len(table) != points:
            raise ValueError("it is cut short")
        return table
    if how != "binary":
        raise ValueError(f"its data is {how!r}; save it as 'binary' or 'ascii'")
    row = np.dtype(fields)
    data = file.read(points * row.itemsize)
    if len(data) != points * row.itemsize:
        raise ValueError("it is cut short")
    table = np.frombuffer(data, row)
    return np.stack([table[axis][:, 0] for axis in "xyz"], 1).astype(float)
