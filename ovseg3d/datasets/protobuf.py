"""Protocol buffers without a schema: the fields of a message by number, read without trust, and written.

Format: Protocol Buffers, Encoding. A field that is absent is 0 or empty. Only what data sets use is known: varints that
are not negative, texts, floats (alone or packed) and messages; other fields are skipped.
"""

import struct
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
"""Wire types."""
MAX_VARINT = 10
"""Bytes."""
Value = int | str | bytes | float | Iterable[float]


class Message:
    """A message.

    Args:
        data: its bytes.

    Raises:
        ValueError: it is cut short, or no message.
    """

    def __init__(self, data: bytes) -> None:
        self._fields: dict[tuple[int, int], list[int | bytes]] = {}
        at = 0
        while at < len(data):
            tag, at = _varint(data, at)
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                value, at = _varint(data, at)
            elif kind in (_EIGHT, _FOUR, _BYTES):
                count, at = _varint(data, at) if kind == _BYTES else ({_EIGHT: 8, _FOUR: 4}[kind], at)
                if count > len(data) - at:
                    raise ValueError("a field that is cut short")
                value, at = data[at : at + count], at + count
            else:
                raise ValueError(f"a field of the unknown type {kind}")
            self._fields.setdefault((number, kind), []).append(value)

    def integer(self, number: int) -> int:
        """A varint."""
        return int(self._fields.get((number, _VARINT), [0])[-1])

    def messages(self, number: int) -> "list[Message]":
        """Messages in it. Raises ValueError: one is damaged."""
        return [Message(bytes(one)) for one in self._fields.get((number, _BYTES), ())]

    def floats(self, number: int) -> Float[np.ndarray, " n"]:
        """Floats of 32 bits, packed or not. Raises ValueError: their bytes are not as many."""
        parts = [*self._fields.get((number, _BYTES), ()), *self._fields.get((number, _FOUR), ())]
        return np.frombuffer(b"".join(map(bytes, parts)), "<f4").astype(np.float64)


def encoded(*fields: tuple[int, Value]) -> bytes:
    """A message of numbered fields: int (not negative), str, bytes (a message), float, or floats, which are packed."""
    made = b""
    for number, value in fields:
        if isinstance(value, int):
            made += _of_varint(number << 3 | _VARINT) + _of_varint(value)
        elif isinstance(value, float):
            made += _of_varint(number << 3 | _FOUR) + struct.pack("<f", value)
        else:
            if isinstance(value, str):
                value = value.encode()
            elif not isinstance(value, bytes):
                value = np.array(list(value), "<f4").tobytes()
            made += _of_varint(number << 3 | _BYTES) + _of_varint(len(value)) + value
    return made


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = 0
    for place, byte in enumerate(data[at : at + MAX_VARINT]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number without an end")


def _of_varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])
