"""The run folder: its location, how it is found, and what is refused."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import small_settings, write_tiny_scene

from ovseg3d.errors import OutputError, RunError
from ovseg3d.runs import places
from ovseg3d.runs.folder import create_run, hash_scene, open_run, open_scene
from ovseg3d.runs.lock import RunLock
from ovseg3d.runs.phrases import keep_phrases
from ovseg3d.runs.places import scene_folder
from ovseg3d.runs.settings import make_config

CONFIG = make_config("cpu", flags=small_settings())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, below which outputs/ goes."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_new_run_has_its_parts_and_is_the_newest(here: Path, tiny_scene: Path) -> None:
    scene = open_scene(tiny_scene, CONFIG)
    first, second = create_run(scene, CONFIG), create_run(scene, CONFIG)
    assert first.folder.parent == second.folder.parent == here / "outputs" / "tiny"
    assert first.folder != second.folder
    names = {path.name for path in second.folder.iterdir()}
    assert names >= {"config.json", "status.json", "scene_transform.json", "checkpoints", "exports", "previews"}
    described = json.loads((second.folder / "config.json").read_text())
    assert described["format_version"] == 3
    assert described["scene"]["path"] == str(tiny_scene) and described["scene"]["format"] == "nerfstudio"
    assert described["scene"]["content_hash"] == hash_scene(scene)
    assert (here / "outputs/tiny/latest.txt").read_text().strip() == second.folder.name
    assert (here / "outputs/tiny/latest").resolve() == second.folder
    assert not os.path.isabs(os.readlink(here / "outputs/tiny/latest")), "the folder must be free to move"


def test_a_run_without_a_field_hides_none_with_a_field(here: Path, tiny_scene: Path) -> None:
    scene, features = open_scene(tiny_scene, CONFIG), replace(CONFIG, only="features")
    alone = create_run(scene, features)
    assert open_run("outputs/tiny/latest") == alone, "without any other, it is the newest"
    with_field = create_run(scene, CONFIG)
    create_run(scene, features)
    assert open_run("outputs/tiny/latest") == with_field


def test_a_photo_that_differs_only_after_its_first_bytes_changes_the_hash(tiny_scene: Path, tmp_path: Path) -> None:
    scene = open_scene(Path(shutil.copytree(tiny_scene, tmp_path / "tiny")), CONFIG)
    photo = scene.frames[0].image_path
    photo.write_bytes(photo.read_bytes() + bytes(10_000))
    before = hash_scene(scene)
    photo.write_bytes(photo.read_bytes() + b"more")
    assert hash_scene(scene) != before


@pytest.mark.parametrize("name", ["outputs/tiny/latest", "outputs/tiny", "outputs/tiny/latest.txt", "scene"])
def test_the_newest_run_is_found(here: Path, tiny_scene: Path, name: str) -> None:
    scene = open_scene(tiny_scene, CONFIG)
    create_run(scene, CONFIG)
    run = create_run(scene, CONFIG)
    found = open_run(tiny_scene if name == "scene" else name)
    assert found == run


def test_the_newest_run_is_found_without_links(here: Path, tiny_scene: Path) -> None:
    run = create_run(open_scene(tiny_scene, CONFIG), CONFIG)
    (here / "outputs/tiny/latest").unlink()
    assert open_run("outputs/tiny/latest") == run
    (here / "outputs/tiny/latest.txt").unlink()
    assert open_run("outputs/tiny") == run


def test_a_file_of_the_run_means_the_run(here: Path, tiny_scene: Path) -> None:
    run = create_run(open_scene(tiny_scene, CONFIG), CONFIG)
    (run.checkpoints / "step-000000001.safetensors").write_bytes(b"")
    assert open_run(run.folder / "config.json") == open_run(run.checkpoints / "step-000000001.safetensors") == run


def test_a_second_scene_of_the_same_name_gets_its_own_folder(here: Path, tiny_scene: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_scene, tmp_path / "elsewhere" / "tiny")
    first = create_run(open_scene(tiny_scene, CONFIG), CONFIG)
    second = create_run(open_scene(other, CONFIG), CONFIG)
    assert first.folder.parent.name == "tiny"
    name, _, hexadecimal = second.folder.parent.name.rpartition("-")
    assert name == "tiny" and len(hexadecimal) == 4 and int(hexadecimal, 16) >= 0
    assert open_run(tiny_scene) == first and open_run(other) == second
    assert create_run(open_scene(other, CONFIG), CONFIG).folder.parent == second.folder.parent


def test_output_dir_is_taken_exactly(here: Path, tiny_scene: Path) -> None:
    run = create_run(open_scene(tiny_scene, CONFIG), CONFIG, Path("mine/run"))
    assert run.folder == here / "mine/run" and not (here / "outputs").exists()
    assert open_run("mine/run") == run


def test_a_finished_run_is_not_overwritten(here: Path, tiny_scene: Path) -> None:
    scene = open_scene(tiny_scene, CONFIG)
    run = create_run(scene, CONFIG, Path("mine"))
    create_run(scene, CONFIG, Path("mine"))  # nothing was learnt there yet
    (run.checkpoints / "step-000000001.safetensors").write_bytes(b"x")
    with pytest.raises(OutputError, match="contains a run already"):
        create_run(scene, CONFIG, Path("mine"))


@pytest.mark.parametrize("state", ["being encoded", "done"])
def test_a_run_without_a_field_is_not_overwritten_either(here: Path, tiny_scene: Path, state: str) -> None:
    scene = open_scene(tiny_scene, CONFIG)
    run = create_run(scene, CONFIG, Path("mine"))
    if state == "done":
        run.write_status("done")
    before = (run.folder / "config.json").read_bytes()
    other = replace(CONFIG, train=replace(CONFIG.train, seed=7))
    with RunLock(run.folder) if state != "done" else nullcontext():
        with pytest.raises((OutputError, RunError), match="contains a run already|Another process"):
            create_run(scene, other, Path("mine"))
    assert (run.folder / "config.json").read_bytes() == before


def test_nothing_of_a_failed_run_is_taken_for_the_new_ones(here: Path, tiny_scene: Path) -> None:
    scene = open_scene(tiny_scene, CONFIG)
    failed = create_run(scene, CONFIG, Path("mine"))
    failed.write_metrics({"clip": "another"})
    keep_phrases(failed.folder, ["chair"])
    (failed.folder / "features.json").write_text("{}")
    (failed.folder / "notes.txt").write_text("the user's")
    failed.write_status("failed")
    run = create_run(scene, CONFIG, Path("mine"))
    assert run.metrics() == {} and run.phrases == () and not (run.folder / "features.json").exists()
    assert (run.folder / "notes.txt").exists()


def test_a_folder_that_is_no_run_loses_nothing(here: Path, tiny_scene: Path) -> None:
    (here / "mine").mkdir()
    for name in ("metrics.json", "features.json"):
        (here / "mine" / name).write_text('{"whose": "the user"}')
    run = create_run(open_scene(tiny_scene, CONFIG), CONFIG, Path("mine"))
    assert run.metrics() == {"whose": "the user"} and (run.folder / "features.json").exists()


def test_a_name_is_claimed_once(here: Path, tiny_scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process claims the name at the last moment, so this one must take the other folder."""
    real = places.write_atomic

    def be_late(path: Path, data: bytes) -> None:
        real(path, data)
        (here / "outputs/tiny/.scene").write_text("/of/somebody/else/tiny")

    monkeypatch.setattr(places, "write_atomic", be_late)
    assert scene_folder(tiny_scene, "tiny", claim=True).name.startswith("tiny-")
    assert (here / "outputs/tiny/.scene").read_text() == "/of/somebody/else/tiny"


def _create(scene_path: Path) -> str:
    return str(create_run(open_scene(scene_path, CONFIG), CONFIG).folder)


def test_processes_at_once_do_not_disturb_each_other(here: Path, tiny_scene: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_scene, tmp_path / "elsewhere" / "tiny")
    jobs = [tiny_scene, other] * 4
    with multiprocessing.get_context("fork").Pool(4) as pool:
        folders = pool.map(_create, jobs, chunksize=1)
    assert len(set(folders)) == len(jobs)
    parents = {path: {Path(f).parent for f, job in zip(folders, jobs) if job == path} for path in (tiny_scene, other)}
    assert len(parents[tiny_scene]) == len(parents[other]) == 1 and parents[tiny_scene] != parents[other]
    for path in (tiny_scene, other):
        assert str(open_run(path).folder) in folders
    assert not list((here / "outputs").rglob("*.tmp*"))


def test_a_killed_run_counts_as_interrupted(here: Path, tiny_scene: Path) -> None:
    run = create_run(open_scene(tiny_scene, CONFIG), CONFIG)
    assert run.status()["status"] == "interrupted"
    with RunLock(run.folder):
        assert run.status()["status"] == "running"
        with pytest.raises(RunError, match="Another process"), RunLock(run.folder):
            pass
    run.write_status("done")
    assert run.status()["status"] == "done"


def test_looking_at_a_run_does_not_keep_a_trainer_out(here: Path, tiny_scene: Path) -> None:
    import fcntl

    run = create_run(open_scene(tiny_scene, CONFIG), CONFIG)
    (run.folder / ".lock").touch()
    with open(run.folder / ".lock", "rb") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)  # as `is_locked` does, for longer than it does
        assert run.status()["status"] == "interrupted", "lookers do not see each other"
        timer = threading.Timer(0.2, fcntl.flock, (looker, fcntl.LOCK_UN))
        timer.start()
        with RunLock(run.folder):
            assert run.status()["status"] == "running"
        timer.join()


def test_the_lock_ends_with_its_process(here: Path, tiny_scene: Path) -> None:
    run = create_run(open_scene(tiny_scene, CONFIG), CONFIG)
    code = (
        "import sys, time; from pathlib import Path; from ovseg3d.runs.lock import RunLock\n"
        "with RunLock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(run.folder)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    assert run.status()["status"] == "running"
    process.kill()
    process.wait()
    process.stdout.close()
    assert run.status()["status"] == "interrupted"


def change(folder: Path, **entries: object) -> None:
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**described, **entries}))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"format_version": 99}, "format version 99"),
        ({"format_version": None}, "format version None"),
        ({"scene": 3}, "does not describe a run"),
        ({"scene": {"path": 1}}, "missing in its config"),
        ({"scene": {"path": "a\0b", "name": "x", "content_hash": "y"}}, "missing in its config"),
        ({"config": []}, "does not describe a run"),
        ({"config": {"field": {"levls": 3}}}, "did you mean field.levels"),
        ({"config": {"field": {"log2_table": 60}}}, "log2-table must be"),
    ],
)
def test_a_config_that_is_wrong_is_refused(
    here: Path, tiny_scene: Path, entries: dict[str, object], words: str
) -> None:
    run = create_run(open_scene(tiny_scene, CONFIG), CONFIG)
    change(run.folder, **entries)
    with pytest.raises(RunError) as caught:
        open_run(run.folder)
    assert words in str(caught.value)


def test_a_cut_config_is_refused(here: Path, tiny_scene: Path) -> None:
    run = create_run(open_scene(tiny_scene, CONFIG), CONFIG)
    text = (run.folder / "config.json").read_text()
    (run.folder / "config.json").write_text(text[: len(text) // 2])
    with pytest.raises(RunError, match="not valid JSON"):
        open_run(run.folder)


def test_latest_cannot_lead_out_of_its_folder(here: Path, tiny_scene: Path) -> None:
    run = create_run(open_scene(tiny_scene, CONFIG), CONFIG)
    shutil.copytree(run.folder, here / "trap")
    (here / "outputs/tiny/latest").unlink()
    (here / "outputs/tiny/latest.txt").write_text("../../trap\n")
    assert open_run("outputs/tiny") == run


def test_what_is_not_a_run_is_named(here: Path, tiny_scene: Path) -> None:
    with pytest.raises(RunError, match="no such run"):
        open_run("absent")
    with pytest.raises(RunError, match="not a run"):
        open_run(tiny_scene)


def test_a_run_that_cannot_be_looked_at_is_no_bug(here: Path, tiny_scene: Path, closed: Path) -> None:
    for path in (closed, closed / "run", closed / "outputs/tiny/latest"):
        with pytest.raises(RunError, match="No permission to look here"):
            open_run(path)
    with pytest.raises(RunError, match="File name too long"):
        open_run("x" * 300)
    run = create_run(open_scene(tiny_scene, CONFIG), CONFIG)
    with pytest.raises(RunError, match="No permission to look here"):
        run.load_scene(closed / "tiny")


def test_runs_are_looked_for_of_a_scene_whose_name_is_no_text(here: Path, tiny_scene: Path) -> None:
    scene = shutil.copytree(tiny_scene, here / "caf\udce9")
    with pytest.raises(RunError, match="no run of it is known"):
        open_run(scene)


def test_a_moved_scene_can_be_named(here: Path, tmp_path: Path) -> None:
    scene_path = write_tiny_scene(tmp_path / "old" / "tiny")
    run = create_run(open_scene(scene_path, CONFIG), CONFIG)
    moved = tmp_path / "new-name"
    shutil.move(scene_path, moved)
    with pytest.raises(RunError, match="no longer where") as caught:
        run.load_scene()
    assert "--scene" in str(caught.value)
    assert len(run.load_scene(moved).frames) == 8


def test_a_changed_scene_is_noticed(here: Path, tmp_path: Path) -> None:
    scene_path = write_tiny_scene(tmp_path / "tiny")
    run = create_run(open_scene(scene_path, CONFIG), CONFIG)
    shutil.copy(scene_path / "images/0001.png", scene_path / "images/0002.png")
    with pytest.raises(RunError, match="has changed"):
        run.load_scene()


def test_a_scene_folder_is_not_claimed_by_looking(here: Path, tiny_scene: Path) -> None:
    scene_folder(tiny_scene, "tiny")
    assert not (here / "outputs").exists()


@pytest.mark.parametrize("blocked", ["outputs", "outputs/tiny"])
def test_a_file_in_the_way_of_the_output(here: Path, tiny_scene: Path, blocked: str) -> None:
    (here / blocked).parent.mkdir(parents=True, exist_ok=True)
    (here / blocked).write_text("in the way")
    with pytest.raises(OutputError, match="exists where a folder"):
        create_run(open_scene(tiny_scene, CONFIG), CONFIG)


def _race(scene: Path, folder: Path, pairs: int) -> None:
    """Two trainings at the same instant, repeatedly: one runs, the other gets an error, and the run is the winner's."""
    program = (
        "import sys, time; from pathlib import Path\n"
        "from ovseg3d.runs import make_config; from ovseg3d.pipeline import train_scene\n"
        "from ovseg3d.scene import load_scene; from ovseg3d.errors import Ovseg3dError\n"
        "from tiny import small_settings\n"
        "scene, seed = load_scene(Path(sys.argv[1]), train_on_all=True), int(sys.argv[2])\n"
        "settings = small_settings(steps=1, seed=seed) | {'only': 'field', 'scene': {'train_on_all': True}}\n"
        "config = make_config('cpu', flags=settings)\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    at, folder = line.split(maxsplit=1)\n"
        "    time.sleep(max(0, float(at) - time.time()))\n"
        "    try:\n"
        "        train_scene(scene, config, output_dir=Path(folder.strip())); print('won', flush=True)\n"
        "    except Ovseg3dError as error:\n"
        "        print('told', error.what, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    start = [sys.executable, "-c", program, str(scene)]
    both = [
        subprocess.Popen([*start, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for seed in (1, 2)
    ]
    try:
        assert [process.stdout.readline() for process in both] == ["ready\n", "ready\n"]
        for number in range(pairs):
            run = folder / str(number)
            for process in both:
                process.stdin.write(f"{time.time() + 0.2} {run}\n")
                process.stdin.flush()
            said = [process.stdout.readline().split(" ", 1) for process in both]
            assert sorted(words[0].strip() for words in said) == ["told", "won"], said
            (told,) = (words[1] for words in said if words[0] == "told")
            assert "Another process" in told or "contains a run already" in told
            winner = 1 + [words[0].strip() for words in said].index("won")
            kept = open_run(run)
            assert kept.config.train.seed == winner and kept.status()["status"] == "done"
            assert not [path for path in run.rglob("*") if ".tmp" in path.name]
    finally:
        for process in both:
            process.stdin.close()
            process.wait(60)


def test_of_two_trainings_at_the_same_instant_one_runs_and_one_is_told(tiny_scene: Path, tmp_path: Path) -> None:
    _race(tiny_scene, tmp_path, 3)


@pytest.mark.slow
def test_of_fifty_pairs_of_trainings_each_has_one_winner(tiny_scene: Path, tmp_path: Path) -> None:
    _race(tiny_scene, tmp_path, 50)


def test_a_lock_is_not_taken_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / ".lock").symlink_to("theirs")
    with pytest.raises(OutputError), RunLock(tmp_path):
        pass
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
