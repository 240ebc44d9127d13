"""Colours of labels. Each phrase of a scene has the same colour in all lists of that scene.

A phrase's hash selects one of 64 colours, which are far apart in CIE Lab and differ in lightness, so that they are
distinguishable without all hues. If two phrases collide, the later one takes the next free colour; the scene's own
phrases come first. So another phrase has the same colour in two lists unless it collides in one.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont

_COUNT = 64
_TRIED = 4096


@lru_cache(maxsize=1)
def _colours() -> np.ndarray:
    """(64, 3) uint8, by farthest-point selection in Lab from random candidates; without near-black and near-white."""
    from skimage.color import rgb2lab

    candidates = np.random.default_rng(7).random((_TRIED, 3))
    lab = rgb2lab(candidates[None])[0]
    usable = (lab[:, 0] > 42) & (lab[:, 0] < 92) & (np.hypot(lab[:, 1], lab[:, 2]) > 15)
    candidates, lab = candidates[usable], lab[usable] * [1.5, 1.0, 1.0]
    chosen = [int(np.argmax(lab[:, 1]))]
    distance = np.full(len(lab), np.inf)
    while len(chosen) < _COUNT:
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return np.rint(candidates[chosen] * 255).astype(np.uint8)


def colours(phrases: Sequence[str], own: Sequence[str] = ()) -> UInt8[np.ndarray, "labels 3"]:
    """A colour for none (black, row 0), and one per phrase, ignoring case.

    Args:
        phrases: the list.
        own: the scene's phrases, which take their colours first, in the list or not.
    """
    taken: set[int] = set()
    rows: dict[str, int] = {}
    for phrase in map(_plain, (*own, *phrases)):
        if phrase not in rows:
            row = zlib.crc32(phrase.encode()) % _COUNT
            while row in taken and len(taken) < _COUNT:
                row = (row + 1) % _COUNT
            taken.add(row)
            rows[phrase] = row
    chosen = [rows[_plain(phrase)] for phrase in phrases]
    return np.concatenate([np.zeros((1, 3), np.uint8), _colours()[chosen].reshape(-1, 3)])


def _plain(phrase: str) -> str:
    return phrase.strip().lower()


def instance_names(count: int) -> tuple[str, ...]:
    """Names of unnamed instances by id from 1, which determine their colours."""
    return tuple(str(number) for number in range(1, count + 1))


def index_image(labels: Int[np.ndarray, "h w"], names: Sequence[str], own: Sequence[str] = ()) -> Image.Image:
    """A label image whose pixel values are label indices: 8 bits with a palette, or 16 bits for more than 254 names.

    `names` and `own` are the arguments of `colours`.
    """
    if len(names) > 254:
        return Image.fromarray(labels.astype(np.uint16))
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette(colours(names, own).ravel().tolist())
    return image


def legend(phrases: Sequence[str], columns: int = 4, own: Sequence[str] = (), texts: Sequence[str] = ()) -> Image.Image:
    """Legend image with colour and phrase of each label; `own` as for `colours`. `texts` are written in place of the
    phrases."""
    font, cell, row = ImageFont.load_default(13), 200, 20
    names = ["none of these", *(texts or phrases)]
    rows = -(-len(names) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * row + 8), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, colour) in enumerate(zip(names, colours(phrases, own))):
        left, top = number // rows * cell + 4, number % rows * row + 4
        draw.rectangle((left, top + 2, left + 14, top + 16), fill=tuple(int(c) for c in colour), outline="black")
        draw.text((left + 20, top + 1), name[:28], fill="black", font=font)
    return sheet
