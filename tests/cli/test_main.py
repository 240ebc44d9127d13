"""The frame of all commands: help, version, exit codes, messages, and modules not imported."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

import ovseg3d
from ovseg3d import cli
from ovseg3d.cli import view
from ovseg3d.cli.console import get_console, interruptible
from ovseg3d.cli.flags import Where
from ovseg3d.errors import OutputError


def run_fake(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """Exit code of a command whose main raises `error`."""

    @dataclass(frozen=True)
    class Fake:
        """A command for tests."""

        def main(self) -> None:
            raise error

    monkeypatch.setattr(cli, "load_command", lambda name: Fake)
    return cli.main(["doctor"])


class Unwaited(threading.Event):
    """A `stop` that Ctrl-C sets on the second check."""

    looks = 0

    def wait(self, timeout: float | None = None) -> bool:
        raise AssertionError("this holds a lock, for which a signal handler that sets it would wait for ever")

    def is_set(self) -> bool:
        self.looks += 1
        if self.looks == 2:
            signal.raise_signal(signal.SIGINT)
        return super().is_set()


@pytest.mark.parametrize("live", [False, True], ids=["view", "train --view"])
def test_ctrl_c_is_heard_by_who_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], live: bool
) -> None:
    viewer = nullcontext(SimpleNamespace(url="http://here", stop=lambda: None))
    monkeypatch.setattr(view, "_serve", lambda *_: viewer.enter_result if live else viewer)
    monkeypatch.setattr("ovseg3d.viewer.open_shared_scene", lambda *_: SimpleNamespace(notes=()))
    monkeypatch.setattr("ovseg3d.viewer.SharedScene", lambda *_: None)
    monkeypatch.setattr(view, "threading", SimpleNamespace(Event=Unwaited))
    if live:
        stop = Unwaited()
        with interruptible(stop), view.Live(get_console(), stop, wanted=True) as shown:
            shown.on_start(MagicMock())
    else:
        view.View(Path("run")).main()
    assert "Ctrl-C ends the viewer." in capsys.readouterr().out


def test_help_lists_every_command_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    places = [out.index(f"\n  {name} ") for name in cli.COMMANDS]
    assert places == sorted(places)
    assert "Example" in out and all(len(line) <= 80 for line in out.splitlines())


def test_no_arguments_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0 and "usage: ovseg3d COMMAND" in capsys.readouterr().out


def test_help_and_import_stay_light() -> None:
    code = (
        "import sys, ovseg3d\nfrom ovseg3d.cli import main\nmain(['--help'])\n"
        "print([m for m in ('torch', 'warp', 'viser', 'matplotlib', 'tyro') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_of_each_command_is_light_and_complete() -> None:
    code = (
        "import sys\nfrom ovseg3d.cli import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    code = main([name, '--help'])\n"
        "    print('end', name, code, [m for m in ('torch', 'warp', 'viser') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ends = [line for line in done.stdout.splitlines() if line.startswith("end ")]
    assert ends == [f"end {name} 0 []" for name in cli.COMMANDS], done.stdout + done.stderr
    usages = {line.split()[2]: line for line in done.stdout.splitlines() if line.startswith("usage: ovseg3d ")}
    assert list(usages) == list(cli.COMMANDS) and not any("PATH" in line for line in usages.values())
    for name in ("prepare", "synth", "info", "train", "pose"):
        assert usages[name].endswith(f" {cli.COMMANDS[name].usage}")


@pytest.mark.parametrize("name", ["view", "query", "calibrate", "segment", "render", "export", "eval"])
def test_commands_about_a_run_share_their_flags(name: str) -> None:
    shared = ["--scene", "moved", "--device", "cpu", "--backend", "warp", "--layout", "none"]
    command = cli.parse_arguments(name, cli.load_command(name), ["a/run", *shared])
    assert command.run == Path("a/run")
    assert command.where == Where(scene=Path("moved"), device="cpu", backend="warp", layout="none")
    assert cli.parse_arguments(name, cli.load_command(name), ["a/run"]).where == Where()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ovseg3d {ovseg3d.__version__}\n"


@pytest.mark.parametrize(("typed", "meant"), [("tran", "train"), ("docter", "doctor"), ("--verson", "--version")])
def test_a_wrong_name_gets_the_nearest(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([typed]) == 2
    assert f"ovseg3d {meant}" in capsys.readouterr().err


def test_a_wrong_flag_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--jsn"]) == 2
    captured = capsys.readouterr()
    assert "--json" in captured.err and captured.out == ""


def test_a_user_mistake_is_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    error = OutputError("The disk is full", where="some/place", fix="free some space")
    assert run_fake(monkeypatch, error) == 2
    captured = capsys.readouterr()
    for words in ("The disk is full.", "some/place", "free some space"):
        assert words in captured.err
    assert "Traceback" not in captured.err and captured.out == ""


def test_brackets_in_a_message_are_not_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_fake(monkeypatch, OutputError("Odd [red]name[/red]", where="a[b]/c")) == 2
    err = capsys.readouterr().err
    assert "[red]name[/red]" in err and "a[b]/c" in err


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_fake(monkeypatch, KeyboardInterrupt()) == 130


def test_a_bug_shows_where_and_says_that_it_is_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_fake(monkeypatch, ZeroDivisionError("oops")) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and "oops" in err and "a bug in ovseg3d" in err


def test_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "ovseg3d", "nope"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no command 'nope'" in done.stderr


def test_help_of_a_setting_is_one_paragraph(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for name, words in (
        ("query", "by default the run's phrases (except"),
        ("train", "the scene's recommendation, else ViT-B-16"),
    ):
        assert cli.main([name, "--help"]) == 0
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("command", ["--help", "info SCENE", "info SCENE --json"])
def test_a_reader_that_goes_away_is_no_error(tiny_scene: Path, tmp_path: Path, command: str) -> None:
    program = f"{sys.executable} -m ovseg3d {command.replace('SCENE', str(tiny_scene))}"
    shell = f"set -o pipefail; {program} | true"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
