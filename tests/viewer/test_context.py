"""Parts of a session are connected by a context and signals; no part refers to its parent."""

import ast
from pathlib import Path

import pytest

import ovseg3d.viewer.app as app
from ovseg3d.errors import ConfigError
from ovseg3d.viewer.view import Signal


def test_callbacks_are_called_in_the_order_in_which_they_were_connected() -> None:
    signal, called = Signal(), []
    signal.emit()
    signal.connect(lambda: called.append(1))
    signal.connect(lambda: signal.connect(lambda: called.append(3)))  # is heard from the next time on
    signal.connect(lambda: called.append(2))
    signal.emit()
    assert called == [1, 2]
    signal.emit()
    assert called == [1, 2, 1, 2, 3]


def test_an_error_of_a_callback_reaches_who_emitted() -> None:
    signal = Signal()

    def fail() -> None:
        raise ConfigError("no")

    signal.connect(fail)
    with pytest.raises(ConfigError):
        signal.emit()


def test_no_piece_knows_the_session_that_makes_it() -> None:
    """Nor the server; imports for type checkers count."""
    folder = Path(app.__file__).parent
    for path in folder.rglob("*.py"):
        found = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        assert "ovseg3d.viewer.app" not in found, path
        assert "ovseg3d.viewer.client_session" not in found or path.name == "app.py", path


def test_an_error_is_shown_in_the_browser_and_only_mistakes_are_reported(connect, errors: list[str]) -> None:
    bare, session = connect()

    def fail(error: Exception) -> None:
        raise error

    guarded = session.context.guarded(fail)
    guarded(ConfigError("That cannot be", fix="something else"))
    assert session.context.messages == ["That cannot be"] and errors == []
    guarded(ValueError("odd"))
    assert session.context.messages[1:] == ["A mistake in ovseg3d"] and "ValueError: odd" in errors[0]
    errors.clear()  # that one was expected
