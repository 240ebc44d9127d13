"""Access control: checks of requests and messages from browsers, before viser handles them.

On a loopback address only pages of the viewer itself are served: requests from a foreign page, or with a foreign host
name that resolves to this machine (DNS rebinding), are refused with 403. If other machines can connect, a token in the
URL is required, which the page then keeps as a cookie. Any port is accepted, since `ssh -L` may change it.

A message has one of a few types, with fixed fields and limited sizes and ranges; others are dropped. Messages beyond
`MESSAGES_PER_SECOND` are delayed, and at most `MAX_CLIENTS` browsers connect at a time.
"""

import asyncio
import contextlib
import hmac
import http
import http.cookies
import math
import secrets
import threading
import urllib.parse
from collections.abc import Callable, Generator
from typing import Any

import msgspec.msgpack
import websockets.asyncio.server
from viser import _gui_api  # pyright: ignore[reportPrivateUsage]
from websockets.http11 import Request, Response

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Loopback names of this machine."""
MAX_CLIENTS = 256
MAX_MESSAGE_BYTES = 2**16
MAX_TEXT_LENGTH = 2000
"""Most characters in a text field of the panel."""
MESSAGES_PER_SECOND = 200
"""Most messages of one browser; a moving camera sends some 30."""
MAX_WINDOW = 16_384
"""Longest side of a browser's window, in pixels."""
ASPECT = 50.0
"""Greatest aspect ratio of a window, or its inverse."""
_FARTHEST = 1e9
_COOKIE = "ovseg3d"
_patching = threading.Lock()


class AccessControl:
    """Checks each HTTP request.

    Args:
        host: the address on which the viewer listens.
    """

    def __init__(self, host: str) -> None:
        self.token = None if host in LOCAL else secrets.token_urlsafe(16)

    def refusal(self, request: Request, clients: int = 0) -> str | None:
        """Why a request is refused, or None."""
        hosts, origins = request.headers.get_all("Host"), request.headers.get_all("Origin")
        if len(hosts) != 1 or len(origins) > 1:
            return "One Host is needed"
        if self.token is None and _name(f"//{hosts[0]}") not in LOCAL:
            return "This viewer is for this machine only: open it as 127.0.0.1 or localhost"
        # Browsers always send Origin with a websocket. A program that sends none could send any value.
        if origins and urllib.parse.urlsplit(origins[0]).netloc.lower() != hosts[0].lower():
            return "Another page may not use this viewer"
        if self.token is not None and not self._knows_token(request):
            return "The address lacks the token that the viewer printed when it started"
        if clients >= MAX_CLIENTS:
            return "Too many browsers"
        return None

    def _knows_token(self, request: Request) -> bool:
        query = urllib.parse.urlsplit(request.path).query
        given = urllib.parse.parse_qs(query, max_num_fields=20).get("token", []) if len(query) < 2000 else []
        with contextlib.suppress(http.cookies.CookieError):
            for line in request.headers.get_all("Cookie"):
                given += [morsel.value for name, morsel in http.cookies.SimpleCookie(line).items() if name == _COOKIE]
        return any(hmac.compare_digest(word.encode(), str(self.token).encode()) for word in given)

    def answer(self, inner: Callable[..., Any], connection: Any, request: Request) -> Response | None:
        """Answer a request, else call viser's own handler `inner`; None accepts a websocket."""
        wants_socket = request.headers.get("Upgrade", "").lower() == "websocket"
        try:
            why = self.refusal(request, len(connection.server.connections))
        except ValueError:  # from parsing the address
            why = "This address is invalid"
        if why is not None:
            return connection.respond(http.HTTPStatus.FORBIDDEN, why + "\n")
        if wants_socket:
            return None
        response = inner(connection, request)
        if response is not None:
            # Foreign pages must not embed the viewer (clickjacking).
            response.headers["Content-Security-Policy"] = "frame-ancestors 'self'"
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Referrer-Policy"] = "no-referrer"  # the token is in the address
            if self.token is not None:
                response.headers["Set-Cookie"] = f"{_COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"
        return response


class Connection(websockets.asyncio.server.ServerConnection):
    """A browser's websocket that passes on only valid messages, at a limited rate."""

    async def recv(self, decode: bool | None = None) -> bytes:  # type: ignore[override]
        """The next valid message. Raises ConnectionClosed."""
        while True:
            message = validate(await super().recv(decode))
            await asyncio.sleep(1 / MESSAGES_PER_SECOND)
            if message is not None:
                return message


def _name(address: str) -> str | None:
    return urllib.parse.urlsplit(address).hostname


@contextlib.contextmanager
def guard_server(access: AccessControl) -> Generator[None]:
    """Make a viser server that is created inside the block check its requests and messages.

    Raises:
        RuntimeError: this version of viser is not supported.
    """
    serve, served = websockets.asyncio.server.serve, []

    def guarded(handler: Any, *args: Any, process_request: Any = None, **options: Any) -> Any:
        served.append(handler)
        answer = lambda connection, request: access.answer(process_request, connection, request)  # noqa: E731
        options |= {"max_size": MAX_MESSAGE_BYTES, "create_connection": Connection}
        return serve(handler, *args, process_request=answer, **options)

    with _patching:
        _guard_controls()
        websockets.asyncio.server.serve = guarded  # type: ignore[assignment,misc]
        try:
            yield
        finally:
            websockets.asyncio.server.serve = serve  # type: ignore[misc]
    if not served:
        raise RuntimeError("The viewer cannot control access with this version of viser")


# Messages


def validate(raw: Any) -> bytes | None:
    """The message with known fields only, or None if the viewer's page would not send it."""
    if not isinstance(raw, bytes) or len(raw) > MAX_MESSAGE_BYTES:
        return None
    try:
        message = msgspec.msgpack.decode(raw)
        kind = message["type"]
        fields = _KINDS[kind]
        if not all(name in message and fits(message[name]) for name, fits in fields.items()):
            return None
        kept = {name: message[name] for name in fields}
        if kind == "ViewerCameraMessage" and not _is_window(kept):
            return None
        return msgspec.msgpack.encode({"type": kind, **kept})
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError, OverflowError):
        return None


def _number(value: Any, low: float = -_FARTHEST, high: float = _FARTHEST) -> bool:
    return type(value) in (int, float) and low <= value <= high


def _vector(length: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) == length and all(map(_number, value))


def _direction(length: int) -> Callable[[Any], bool]:
    vector = _vector(length)
    return lambda value: vector(value) and math.hypot(*value) > 1e-6


def _side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_WINDOW


def _is_window(message: dict[str, Any]) -> bool:
    ratio = message["image_width"] / message["image_height"]
    return 1 / ASPECT <= ratio <= ASPECT


def _identifier(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 200


def _updates(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"value"} and _is_value(value["value"])


def _is_value(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT_LENGTH
    if isinstance(value, list):
        return len(value) <= 16 and all(_is_value(item) and not isinstance(item, list) for item in value)
    return isinstance(value, bool) or _number(value)


_KINDS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "ViewerCameraMessage": {
        "wxyz": _direction(4),
        "position": _vector(3),
        "fov": lambda value: _number(value, 1e-3, math.pi - 1e-3),
        "near": lambda value: _number(value, 0.0, 1e12),
        "far": lambda value: _number(value, 0.0, 1e12),
        "image_height": _side,
        "image_width": _side,
        "look_at": _vector(3),
        "up_direction": _vector(3),
    },
    "GuiUpdateMessage": {"uuid": _identifier, "updates": _updates},
    "GuiFormSubmitMessage": {"uuid": _identifier},
    "SceneNodeClickMessage": {
        "name": _identifier,
        "instance_index": lambda value: value is None or type(value) is int and 0 <= value < 2**31,
        "ray_origin": _vector(3),
        "ray_direction": _direction(3),
        "screen_pos": _vector(2),
        "modifier": lambda value: value is None or _identifier(value),
        "owner": _identifier,
    },
    "ScenePointerMessage": {
        "event_type": lambda value: value in ("click", "rect-select"),
        "ray_origin": lambda value: value is None or _vector(3)(value),
        "ray_direction": lambda value: value is None or _direction(3)(value),
        "screen_pos": lambda value: isinstance(value, list) and len(value) <= 2 and all(map(_vector(2), value)),
        "modifier": lambda value: value is None or _identifier(value),
    },
}
"""Accepted message types, with a check of each field. Uploads are not among them."""


def fits(control: Any, value: Any) -> bool:
    """Whether a control of the panel can be set to `value`: of its type, and among its options or in its range."""
    now, props = control.value, control.props
    if isinstance(now, bool):
        return isinstance(value, bool)
    options = getattr(props, "options", None)
    if options is not None:
        return value in options
    if isinstance(now, int | float):
        low, high = (getattr(props, name, None) for name in ("min", "max"))
        return _number(value, -_FARTHEST if low is None else low, _FARTHEST if high is None else high)
    return isinstance(now, str) and isinstance(value, str)


def _guard_controls() -> None:
    """Make all viser servers that start from now on check the values of controls."""
    usual = _gui_api.GuiApi._handle_gui_updates  # pyright: ignore[reportPrivateUsage]
    if getattr(usual, "guarded", False):
        return

    async def guarded(self: Any, client_id: Any, message: Any) -> None:
        handle = self._gui_input_handle_from_uuid.get(message.uuid)
        if handle is not None and fits(handle._impl, message.updates["value"]):
            await usual(self, client_id, message)

    guarded.guarded = True  # type: ignore[attr-defined]
    _gui_api.GuiApi._handle_gui_updates = guarded  # type: ignore[method-assign]
