"""The server: creates a session for each browser, follows a run in training, and runs until `stop`.

    with Viewer(open_shared_scene(path), port=7007) as viewer:
        viewer.url
        viewer.wait()

No action of a browser ends it. viser's share button, which opens the server to the internet, is removed.
"""

import contextlib
import errno
import io
import socket
import threading
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType

import viser

from ovseg3d.errors import OutputError, Ovseg3dError
from ovseg3d.runs.folder import RunFolder
from ovseg3d.viewer.access import AccessControl, guard_server
from ovseg3d.viewer.client_session import ClientSession
from ovseg3d.viewer.follow import Follower
from ovseg3d.viewer.navigation import first_view
from ovseg3d.viewer.shared_scene import SharedScene
from ovseg3d.viewer.thread_safe_events import use_thread_safe_events

HOST, PORT = "127.0.0.1", 7007
CLOSING_SECONDS = 20.0
"""How long `stop` waits for rendering to end."""


def _ignore(text: str) -> None:
    """Discard notices."""


class Viewer:
    """Serves a scene to browsers, from construction until `stop`.

    Args:
        shared: the scene.
        host: 127.0.0.1: only this machine; 0.0.0.0: every machine that can reach it.
        port: the first port to try.
        notice: called with the text of an internal error.

    Raises:
        OutputError: no port is free, or the host is not an address of this machine.
    """

    def __init__(
        self, shared: SharedScene, host: str = HOST, port: int = PORT, notice: Callable[[str], None] = _ignore
    ) -> None:
        self.shared, self._notice = shared, notice
        self.sessions: dict[int, ClientSession] = {}
        self._training = ""
        self._lock, self._connecting, self._stopped = threading.Lock(), threading.Lock(), threading.Event()
        # A browser may disconnect while an image is being sent to it.
        warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")
        address, port = find_free_port(host, port)
        use_thread_safe_events()
        self._access = AccessControl(host)
        # viser prints to stdout, but only cli may print.
        with contextlib.redirect_stdout(io.StringIO()), guard_server(self._access):
            self.server = viser.ViserServer(host=address, port=port, label="ovseg3d", verbose=False)
        self._host = host
        self.server.request_share_url = _refuse_to_share  # type: ignore[method-assign]
        self._configure()
        self._follower: Follower | None = None
        if shared.run is not None and shared.run.status()["status"] == "running":
            self.follow(shared.run)
        self._preparing = threading.Thread(target=self._prepare, name="ovseg3d-prepare", daemon=True)
        self._preparing.start()
        self.server.on_client_connect(self._connect)
        self.server.on_client_disconnect(self._disconnect)

    @property
    def port(self) -> int:
        """The port in use."""
        return self.server.get_port()

    @property
    def url(self) -> str:
        """The URL for a browser on this machine."""
        address = url_of(self._host, self.port)
        return address if self._access.token is None else f"{address}/?token={self._access.token}"

    def follow(self, run: RunFolder) -> None:
        """Show a run of the same scene from now on, and each new checkpoint."""
        if self._follower is not None:
            self._follower.stop()
        self.shared.run = run
        self._follower = Follower(self.shared, self._changed, self._report_unexpected)

    def _prepare(self) -> None:
        try:
            self.shared.prepare()
        except Exception as error:
            self._report(error)

    def wait_ready(self, seconds: float) -> bool:
        """Wait until the encoder and caches are loaded; False after `seconds`."""
        self._preparing.join(seconds)
        return not self._preparing.is_alive()

    def _changed(self, words: str) -> None:
        self._training = words
        for session in list(self.sessions.values()):
            session.field_changed(words)

    def wait(self) -> None:
        """Block until `stop`; signals interrupt it."""
        while not self._stopped.wait(0.5):
            pass

    def stop(self) -> None:
        """Stop the server and all sessions."""
        self._stopped.set()
        # First, since viser's threads outlive the server and Python joins them: none may wait for the query lock.
        self.shared.close()
        with self._connecting:
            sessions = list(self.sessions.values())
        if self._follower is not None:
            self._follower.stop()
        for session in sessions:
            session.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()
        for session in sessions:
            session.join(CLOSING_SECONDS)
        self.wait_ready(CLOSING_SECONDS)
        if self._follower is not None:
            self._follower.join(CLOSING_SECONDS)

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _configure(self) -> None:
        gui, scene = self.server.gui, self.server.scene
        gui.configure_theme(
            control_width="large", dark_mode=True, show_logo=False, show_share_button=False, brand_color=(28, 126, 214)
        )
        gui.main_panel.dock_right()
        scene.set_up_direction(self.shared.up)
        position, target, fov = first_view(self.shared)
        first = self.server.initial_camera
        first.position, first.look_at, first.fov = position, target, fov
        first.up = self.shared.up
        first.near = 0.01 * self.shared.extent
        first.far = 1000.0 * self.shared.extent

    def _connect(self, client: viser.ClientHandle) -> None:
        with self._connecting:
            if self._stopped.is_set():
                return
            try:
                session = ClientSession(client, self.shared, self._report)
            except Exception as error:
                self._report(error)
                return
            with self._lock:
                self.sessions[client.client_id] = session
        if client.client_id not in self.server.get_clients():  # it disconnected meanwhile
            self._remove(client)
            return
        # The run may have changed while the session was created.
        session.field_changed(self._training)

    async def _disconnect(self, client: viser.ClientHandle) -> None:
        """Runs in viser's own thread, at once: callback threads may be busy, and drawing should end immediately."""
        self._remove(client)

    def _remove(self, client: viser.ClientHandle) -> None:
        with self._lock:
            session = self.sessions.pop(client.client_id, None)
        if session is not None:
            session.close()

    def _report(self, error: BaseException) -> None:
        if not self._stopped.is_set():
            self._notice("".join(traceback.format_exception(error)))

    def _report_unexpected(self, error: Exception) -> None:
        """Report an error, except of files that are missing while a run is being written."""
        if not isinstance(error, Ovseg3dError | OSError):
            self._report(error)


def find_free_port(host: str, first: int) -> tuple[str, int]:
    """The address of `host`, and its first free port from `first` on.

    viser retries forever where it cannot listen, so this is checked before.

    Raises:
        OutputError: the host name is unknown, or no port is free.
    """
    fix, why = "another --port, or --host 127.0.0.1", "no port is free"
    try:
        found = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise OutputError(f"The viewer cannot listen at {host}: unknown host name", fix=fix) from error
    for family, kind, protocol, _, (address, *_) in found:
        for port in range(first, 65536):
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
                    probe.bind((address, port))
                return str(address), port
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    why = error.strerror or str(error)
                    break
    raise OutputError(f"The viewer cannot listen at {host}:{first} ({why})", fix=fix)


def url_of(host: str, port: int) -> str:
    """The URL for a browser on this machine, for a server that listens at `host`."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refuse_to_share(verbose: bool = True) -> None:
    """Replaces viser's tunnel to the internet, which any browser could request."""
