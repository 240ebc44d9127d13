"""Calibration by labels: the fit against other solvers, files of labels, what a run keeps, and answers afterwards."""

import inspect
import json
import os
import pty
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from ovseg3d.errors import ConfigError, RunError
from ovseg3d.query import calibrate
from ovseg3d.query.calibration import CARD_DEVIATIONS, DEVIATIONS, MAX_LOG_ODDS, MIN_SLOPE, Calibration, Prior, fit
from ovseg3d.query.engine import QueryEngine
from ovseg3d.query.kept_calibration import FILE, Label, load_calibration, read_labels
from ovseg3d.session import Run, load


@pytest.fixture
def own(run: Run, tmp_path: Path) -> Run:
    """A run of one's own to write to."""
    folder = tmp_path / "own"
    shutil.copytree(run.folder, folder)
    return load(folder)


def drawn(slope: float, offset: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log odds, and labels drawn from a calibration."""
    random = np.random.default_rng(seed)
    odds = random.uniform(-5, 5, count)
    return odds, random.random(count) < expit(slope * odds + offset)


@pytest.mark.parametrize("count", [0, 1, 3, 12, 200])
@pytest.mark.parametrize("prior", [Prior(), Prior(Calibration(0.6, -2.0), CARD_DEVIATIONS)])
def test_the_fit_is_the_most_probable_one(count: int, prior: Prior) -> None:
    odds, present = drawn(1.4, 1.0, count)
    share = present.mean() if count else 0.5
    weight = np.where(present, 0.5 / max(share, 1e-9), 0.5 / max(1 - share, 1e-9))

    def posterior(numbers: np.ndarray) -> float:
        p = expit(numbers[0] * odds + numbers[1])
        off = (numbers - [prior.mean.slope, prior.mean.offset]) / np.array(prior.deviations)
        return -(weight * np.log(np.where(present, p, 1 - p))).sum() + (off**2).sum() / 2

    best = minimize(posterior, [1.0, 0.0], method="BFGS", options={"gtol": 1e-8}).x
    found = fit(odds, present, prior)
    np.testing.assert_allclose([found.slope, found.offset], best, atol=1e-4)


def test_about_zero_the_fit_is_the_ridge_of_scikit_learn() -> None:
    """Its penalty is about zero and equal for all columns, so columns are in units of the prior's deviations."""
    odds, present = drawn(1.2, -1.0, 60)
    columns = np.stack([DEVIATIONS[0] * odds, np.full(60, DEVIATIONS[1])], 1)
    other = LogisticRegression(C=1.0, fit_intercept=False, class_weight="balanced", tol=1e-10).fit(columns, present)
    found = fit(odds, present, Prior(Calibration(0.0, 0.0)))
    np.testing.assert_allclose([found.slope, found.offset], other.coef_[0] * DEVIATIONS, atol=1e-4)


def test_many_labels_find_the_truth_and_few_break_nothing() -> None:
    odds, present = drawn(1.5, -2.0, 5000)
    found, balance = fit(odds, present), np.log((~present).sum() / present.sum())
    assert found.slope == pytest.approx(1.5, abs=0.1) and found.offset == pytest.approx(-2.0 + balance, abs=0.15)
    for few in ([], [4.0], [-30.0, 30.0], [0.0] * 5, [2.0, 3.0, 4.0]):
        for yes in (True, False):
            known = fit(np.array(few), np.full(len(few), yes), Prior(Calibration(0.97, -0.27), CARD_DEVIATIONS))
            assert known.slope > 0.4 and abs(known.offset) < 1, "one-sided answers move a card's calibration little"
            assert fit(np.array(few), np.full(len(few), yes)).slope >= MIN_SLOPE
    assert fit(np.array([-1e9]), np.array([True])) == fit(np.array([-MAX_LOG_ODDS]), np.array([True]))
    wrong = fit(np.array([-3.0, 3.0] * 50), np.array([True, False] * 50))
    assert wrong.slope == pytest.approx(MIN_SLOPE), "the order of scores stays"


def test_labels_are_read_from_csv_and_json(tmp_path: Path) -> None:
    table, listed = tmp_path / "labels.csv", tmp_path / "labels.json"
    table.write_text("phrase,present,image,x,y\nmug,yes,,,\na red chair,No,a/1.jpg,310,0\n")
    listed.write_text(
        '[{"phrase": "mug", "present": true}, {"phrase": "a red chair", "present": 0, "image": "a/1.jpg", "x": 310, '
        '"y": 0}]'
    )
    expected = (Label("mug", True), Label("a red chair", False, "a/1.jpg", 310.0, 0.0))
    assert read_labels(table) == read_labels(listed) == expected
    for name, text, said in (
        ("a.csv", "phrase,present\nmug,perhaps\n", "neither yes nor no"),
        ("a.csv", "phrase,present\n,yes\n", "no phrase"),
        ("a.csv", "name\nmug\n", "no phrase"), ("a.csv", "", "no list"), ("a.json", "{}", "no list"),
        ("a.json", "[1]", "no phrase"), ("a.json", "[", "cannot be read"), ("a.json", '[{"phrase": "a"}]', "neither"),
        ("a.csv", "phrase,present,image\nmug,yes,1.jpg\n", "pixels"),
        ("a.csv", "phrase,present,image,x,y\nmug,yes,1.jpg,-1,nan\n", "pixels"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_labels(tmp_path / name)
    with pytest.raises(ConfigError, match="missing"):
        read_labels(tmp_path / "none.csv")


def test_answers_follow_the_labels_of_the_run(own: Run) -> None:
    before = own.query("green")
    raw = calibrate.evidence(QueryEngine(own), [Label("green", True), Label("red", True)])
    assert before.calibrated_by is None and before.score == pytest.approx(expit(raw[0]))
    found = own.calibrate([("green", not before.present), ("red", True)])
    after = own.query("green")
    expected = fit(raw, np.array([not before.present, True]))
    assert found == expected and after.calibrated_by == "labels" and after.calibrated
    assert after.score == after.probability == pytest.approx(expit(expected.slope * raw[0] + expected.offset))
    assert own.query("green", negatives=["blue"]).probability is None
    # Points and the choice of a protocol follow the same numbers.
    red = own.query("red")
    assert red.relevancy.max() == pytest.approx(red.score)
    assert load(own.folder).query("green").score == after.score, "another process"
    # Later labels add; the last answer to a question counts.
    own.calibrate([("green", before.present), ("blue", True)])
    kept = load_calibration(own.folder, QueryEngine(own).semantics.encoder.weight_hash, True)
    assert [label.phrase for label in kept.labels] == ["green", "red", "blue"]
    assert kept.labels[0].present is before.present
    own.calibrate(reset=True)
    assert own.query("green").score == before.score and not (own.folder / FILE).exists()


def test_answers_of_others_are_kept(own: Run) -> None:
    mine = load(own.folder)
    mine.query("green")  # reads what the run keeps
    own.calibrate([("green", True), ("red", False)])
    mine.calibrate([("blue", True)])
    kept = load_calibration(own.folder, QueryEngine(own).semantics.encoder.weight_hash, True)
    assert [label.phrase for label in kept.labels] == ["green", "red", "blue"]


def test_to_begin_anew_replaces_what_is_kept_and_loses_nothing_by_an_error(own: Run) -> None:
    own.calibrate([("green", True), ("red", False)])
    load(own.folder, layout="none").calibrate([("red", True)])
    before, view = (own.folder / FILE).read_bytes(), QueryEngine(own).scene.frames[0].name
    with pytest.raises(ConfigError, match="outside of the photo"):
        own.calibrate([Label("red", True, view, 1e5, 0.0)], reset=True)
    assert (own.folder / FILE).read_bytes() == before
    own.calibrate([("blue", True)], reset=True)
    kept = load_calibration(own.folder, QueryEngine(own).semantics.encoder.weight_hash, True)
    assert [label.phrase for label in kept.labels] == ["blue"]
    assert len(json.loads((own.folder / FILE).read_text())["calibrations"]) == 1, "the other layout's is gone, too"


@pytest.mark.parametrize("wrong", [("sofa", "no"), ("sofa", None), ("sofa", 1), (" ", True), (3, True)])
def test_a_label_is_a_phrase_with_yes_or_no(wrong: tuple) -> None:
    label = object.__new__(Label)  # types are checked in tests only
    vars(label).update(phrase=wrong[0], present=wrong[1])
    with pytest.raises(ConfigError, match="label has no phrase|neither True nor False"):
        label.__post_init__()


def test_a_label_at_a_pixel_counts_the_relevancy_there(own: Run) -> None:
    engine = QueryEngine(own)
    (answer,) = engine.ask(["red"], views=[(view := engine.scene.frames[0].name)])
    image = answer.relevancies[view]
    y, x = np.unravel_index(image.argmax(), image.shape)
    (odds,) = calibrate.evidence(engine, [Label("red", True, view, float(x), float(y))])
    assert odds == pytest.approx(logit(min(float(image[y, x]), 1 - 1e-9)), abs=1e-3)
    hole = np.argwhere(engine.places(view).image(np.ones((len(engine.semantics.surface), 1)))[..., 0] == 0)[0]
    for place, said in (((float(hole[1]), float(hole[0])), "no surface"), ((1e5, 0.0), "outside of the photo")):
        with pytest.raises(ConfigError, match=said):
            own.calibrate([Label("red", True, view, *place)])
    with pytest.raises(ConfigError, match="no view"):
        own.calibrate([Label("red", True, "nowhere.png", 0.0, 0.0)])
    assert not (own.folder / FILE).exists(), "nothing half-written"


def test_a_calibration_belongs_to_an_encoder_and_to_a_layout(own: Run) -> None:
    own.calibrate([("green", True)])
    without = load(own.folder, layout="none")
    assert without.query("green").calibrated_by is None
    without.calibrate([("green", False)])
    assert own.query("green").calibrated_by == without.query("green").calibrated_by == "labels"
    assert load(own.folder).query("green").score > load(own.folder, layout="none").query("green").score
    engine = QueryEngine(own)
    other = replace(engine.semantics, encoder=replace(engine.semantics.encoder, weight_hash="other"))
    assert QueryEngine(own, semantics=other).decision.kept_calibration is None
    with pytest.raises(ConfigError, match="Layout is one of"):
        inspect.unwrap(load)(own.folder, layout="outdoor")  # types are checked in tests only


@pytest.mark.parametrize(
    "change", [{"slope": "steep"}, {"slope": -1.0}, {"offset": None}, {"labels": [{}]}, {"labels": 3}]
)
def test_a_damaged_calibration_is_named_and_can_be_removed(own: Run, change: dict) -> None:
    own.calibrate([("green", True)])
    kept = json.loads((own.folder / FILE).read_text())
    kept["calibrations"][0] |= change
    (own.folder / FILE).write_text(json.dumps(kept))
    with pytest.raises(RunError) as told:
        load(own.folder).query("green")
    assert FILE in str(told.value.where)
    load(own.folder).calibrate(reset=True)
    assert load(own.folder).query("green").calibrated_by is None


def test_the_command_reads_asks_and_removes(own: Run, cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("phrase,present\ngreen,yes\nred,yes\n")
    done = cli("calibrate", own.folder, "--labels", table, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["labels"] == 2 and told["file"] == str(own.folder / FILE) and told["slope"] > 0
    assert "by the labels of this run" in cli("query", own.folder, "green", "--views", "none").stdout
    asked = json.loads(cli("query", own.folder, "green", "--views", "none", "--json").stdout)["answers"][0]
    assert asked["calibrated_by"] == "labels" and asked["probability"] == asked["score"]
    assert "removed" in cli("calibrate", own.folder, "--reset").stdout
    assert "no calibration" in cli("calibrate", own.folder, "--reset").stdout
    # Without a file and a terminal there is nobody to ask.
    for wrong, said in (
        ((), "no terminal"), (("--labels", tmp_path / "none.csv"), "missing"), (("--count", 0), "--count"),
        (("--labels", table, "--phrases", "red"), "--phrases would have no effect"),
        (("--reset", "--count", 3), "--count would have no effect"),
    ):  # fmt: skip
        done = cli("calibrate", own.folder, *wrong)
        assert done.returncode == 2 and said in done.stderr + done.stdout
    assert not (own.folder / FILE).exists()
    # At a terminal; what is no answer is asked again.
    master, slave = pty.openpty()
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        os.write(master, b"maybe\ny\n\nn\nq\n")
        done = cli("calibrate", own.folder, "--phrases", "red;sand;green;blue")
    os.close(master)
    assert done.returncode == 0 and "Calibrated by 2 labels" in done.stdout
    kept = json.loads((own.folder / FILE).read_text())["calibrations"][0]["labels"]
    assert [(label["phrase"], label["present"]) for label in kept] == [("red", True), ("green", False)]


def test_the_questions_are_those_with_the_least_sure_answers(own: Run) -> None:
    engine = QueryEngine(own)
    few = calibrate.questions(engine, 5)
    every = calibrate.questions(engine, 10_000)
    odds = np.abs(calibrate.evidence(engine, [Label(name, True) for name in every]))
    assert few == every[:5] and len(set(every)) == len(every) > 100 and (np.diff(odds) >= 0).all()
