"""The script that holds a run's basis against the full features, on the tiny scene with an encoder of four numbers."""

import sys
from pathlib import Path

import pytest

from ovseg3d.errors import ConfigError
from ovseg3d.runs.folder import RunFolder

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import check_basis as script  # noqa: E402


def rows(printed: str) -> dict[str, list[str]]:
    """Cells of the table by its first column."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line[:1] == "|"]
    return {first: rest for first, *rest in cells[2:]}


def test_a_basis_of_all_numbers_answers_as_the_features_do_and_a_smaller_one_does_not(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    script.CheckBasis(run.folder, phrases=40, points=400).main()
    printed = capsys.readouterr().out
    found = rows(printed)
    assert "few enough to fit the basis to" in printed and set(found) == {"as lifted", "the run's own"}
    for points, phrases, kept, mean, least, _, size, whole in found.values():
        assert (points, phrases, kept) == ("400", "40", "4") and float(size) == float(whole)
        assert float(mean) > 0.99 and float(least) > 0.98, "but for half floats"
    script.CheckBasis(run.folder, phrases=40, points=400, kept=1).main()
    poor = rows(capsys.readouterr().out)
    assert float(poor["as lifted"][3]) < 0.9 and poor["the run's own"] == found["the run's own"]
    with pytest.raises(ConfigError, match="nothing to compare"):
        script.CheckBasis(run.folder, points=1).main()


def every(*known: str) -> tuple[str, ...]:
    """All phrases that there are."""
    with pytest.raises(ConfigError, match="fewer than") as caught:
        script.phrases_not_in(known, 10**6)
    return script.phrases_not_in(known, int(caught.value.fix.split()[1]))


def test_phrases_are_of_the_grammar_and_none_is_known() -> None:
    some, made = every("couch", "a red chair"), every()
    assert len(set(made)) == len(made) > 5000 and set(made) - set(some) == {"a couch", "a red chair"}
    assert {"a couch", "a settee"} <= set(made[:40]) and "a blue striped chair" in made
    assert all(phrase.startswith(("a ", "an ")) for phrase in made)
    assert script.phrases_not_in((), 200) == made[:200] != script.phrases_not_in((), 200, seed=1)
