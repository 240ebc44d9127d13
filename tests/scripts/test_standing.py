"""What puts pictures where their words are: what a picture is of, words that stand for names, their losses, and
trainings that begin with another's weights."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_training import HashTeacher, clip_training, here  # noqa: F401 - `here`: every test

from ovseg3d.errors import ConfigError
from ovseg3d.evaluate.absence import OUTSIDE
from ovseg3d.synth.examples import KINDS, SURFACES, SYNONYMS
from scripts.training import augment, text
from scripts.training.captions import subject
from scripts.training.clip import ClipShape, cells_of
from scripts.training.distributed import BatchRandom
from scripts.training.losses import presence_loss, standing_loss
from scripts.training.placing import Placing


def test_a_picture_is_of_what_its_first_caption_names_alone() -> None:
    names, pairs = ("mug", "chair", "floor"), (("red", "mug"), ("red", "chair"), ("blue", "mug"))
    assert subject(("a mug", "a blue mug", "a red mug next to a chair"), names, pairs) == (0, 2)
    assert subject(("a chair", "a green chair"), names, pairs) == (1, -1), "no pair that training may show"
    assert subject(("a mug", "a tall mug", "a blue mug next to a red mug"), names, pairs) == (0, -1), "another's colour"
    assert subject(("a red mug next to a chair", "a mug"), names, pairs) is None, "two things"
    assert subject(("a bright room",), names, pairs) is None, "nothing"
    assert subject((), names, pairs) is None


def test_words_count_against_the_names_of_everything_else() -> None:
    names, words = torch.tensor([[5.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), torch.tensor([[2.0, -1.0, 9.0], [3.0, 3.0, 3.0]])
    means = torch.tensor([[True, True, False], [False, False, False]])
    told = torch.tensor([[True, False, False], [False, True, False]])
    others = np.logaddexp(1.0, 0.0)
    expected = (np.log1p(np.exp(others - 2.0)) + np.log1p(np.exp(others + 1.0))) / 2
    assert standing_loss(names, words, told, means) == pytest.approx(expected, abs=1e-6)
    assert standing_loss(names, words, told, means & False) == 0, "no word means what is shown"


def placed(captions: list[list[str]], vectors: torch.Tensor, **weights: float) -> tuple[torch.Tensor, dict]:
    """The loss in a world of two names and their two words, each text on an axis of its own."""
    related = text.Related(("cup", "crate"), torch.eye(2).bool(), torch.eye(2).flip(0).bool())
    placing = Placing(("mug", "box"), (("red", "mug"), ("blue", "mug"), ("blue", "box")), related)
    assert placing.texts[:7] == ["a mug", "a box", "a red mug", "a blue mug", "a blue box", "a cup", "a crate"]
    texts, none = torch.eye(len(placing.texts)), {"pull": 0.0, "pair": 0.0, "word": 0.0, "presence": 0.0}
    return placing(vectors @ texts, texts, captions, torch.tensor(2.0), **none | weights)


def test_pictures_of_one_thing_are_placed_and_others_are_not() -> None:
    from ovseg3d.query.relevancy import CANONICAL

    vectors = torch.zeros(2, 7 + len(CANONICAL))
    vectors[0, [0, 3]] = torch.tensor([0.6, 0.8])  # a mug, a blue mug
    vectors[1, 1] = 1.0  # a view of both
    captions = [["a mug", "a blue mug", "a mug on a box"], ["a red box and a mug"]]
    assert placed(captions, vectors, pull=1.0)[0] == pytest.approx(0.2), "its phrase is told with its colour"
    # Against red mugs; blue boxes are alternatives only where no box is told.
    assert placed(captions, vectors, pair=1.0)[0] == pytest.approx(np.log1p(np.exp(-4 * 0.8)), abs=1e-6)
    # Both names are told of it, so "cup" has no alternative; "crate" is nobody's word here.
    assert placed(captions, vectors, word=1.0)[0] == 0
    alone = [["a mug", "a blue mug"], captions[1]]
    assert placed(alone, vectors, pair=1.0)[0] == pytest.approx(np.log1p(2 * np.exp(-4 * 0.8)), abs=1e-6)
    assert placed(alone, vectors, word=1.0)[0] == pytest.approx(np.log(2.0), abs=1e-6)
    # There: "mug" and "cup"; absent: "box" and "crate", nothing when the box is told too.
    hits = (np.log1p(np.exp(-1.2)) + np.log(2.0)) / 2
    assert placed(captions, vectors, presence=1.0)[0] == pytest.approx(hits, abs=1e-6)
    loss, figures = placed(alone, vectors, presence=1.0)
    assert loss == pytest.approx(hits + np.log(2.0), abs=1e-6) and figures["presence loss"] == loss
    amid = ["a mug", "a blue mug", "a mug next to a box"]
    assert placed([captions[1], amid], vectors, pull=1.0, word=1.0) == (0, {}), "no picture is of one thing alone"


class FlatTeacher:
    """Sentences on a circle."""

    ANGLES = {"a mug": 0, "a box": 90, "a cup": 20, "a crate": 100, "a thing": 45, "a cat": 170}

    def embed(self, texts: list[str]) -> torch.Tensor:
        angles = torch.tensor([self.ANGLES[one] for one in texts]).float().deg2rad()
        return torch.stack([angles.cos(), angles.sin()], 1)


def test_a_word_means_the_name_that_it_is_clearly_nearest_to() -> None:
    words = ["cup", "crate", "thing", "cat", "mug", "cup"]
    found = text.relate(FlatTeacher(), ("mug", "box"), words)
    assert found.words == ("cup", "crate", "thing", "cat")
    assert found.means.tolist() == [[True, False], [False, True], [False, False], [False, False]]
    # cos 80 and 100 degrees are below 0.35, cos 70 (cup and box) is just below, cos 45 is not.
    assert found.far.tolist() == [[False, True], [True, False], [False, False], [True, True]]
    assert text.relate(FlatTeacher(), ("mug", "box"), words, ahead=-1.0).means.any(1).tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_no_word_of_the_evaluations_is_related_to_a_name(tmp_path: Path) -> None:
    related = clip_training(tmp_path, 1).relate(HashTeacher())
    asked = {synonym.lower() for synonym, _ in SYNONYMS} | {*OUTSIDE}
    assert len(related.words) > 400 and not {*KINDS, *SURFACES, "object", "stuff"} & {*related.words}
    assert not any(f" {one} " in f" {word} " for one in asked for word in related.words), "nor in a longer word's midst"
    assert related.means.shape == related.far.shape == (len(related.words), len(KINDS) + len(SURFACES))
    assert related.means.any() and not (related.means & related.far).any()


def test_what_is_absent_counts_by_what_comes_nearest() -> None:
    logits = torch.tensor([[2.0, -1.0, 3.0, 0.5], [9.0, 9.0, 9.0, 9.0]])
    there = torch.tensor([[True, False, False, False], [False] * 4])
    absent = torch.tensor([[False, True, True, False], [True] * 4])
    soft = np.log1p(np.exp([-2.0, -1.0, 3.0]))
    assert presence_loss(logits, there, absent, hardest=1) == pytest.approx(soft[0] + soft[2], abs=1e-6)
    assert presence_loss(logits, there, absent, hardest=2) == pytest.approx(soft[0] + soft[1:].mean(), abs=1e-6)
    assert presence_loss(logits, there & False, absent) == 0, "nothing is known to be there"


def test_coarse_pictures_keep_their_colours_and_lose_their_detail() -> None:
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    draw = BatchRandom(torch.Generator().manual_seed(0), 6)
    assert torch.equal(augment.coarse(images, 0.0, draw), images)
    blurred = augment.coarse(images, 1.0, draw)
    assert blurred.shape == images.shape and (blurred.std((2, 3)) < 0.6 * images.std((2, 3))).all()
    torch.testing.assert_close(blurred.mean((2, 3)), images.mean((2, 3)), atol=0.05, rtol=0)
    some = (augment.coarse(images, 0.5, draw) != images).flatten(1).any(1)
    assert 0 < some.sum() < 6


def test_pictures_in_training_are_the_library_s() -> None:
    """Its head has two layers, so that the mean of cells is no longer the picture."""
    model = ClipShape(image_size=64, tower="test_resnet", dim=16).build().visual.eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        whole, cells = cells_of(model, model.trunk, images)
        torch.testing.assert_close(whole, model(images))
        torch.testing.assert_close(cells, model.head(model.trunk.forward_features(images).flatten(2).mT))
    assert cells.shape == (2, 4, 16)


def test_a_training_goes_on_from_another_s_weights(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert clip_training(tmp_path / "first", 2).main(HashTeacher()) == 0
    first = load_file(tmp_path / "first/out/open_clip_model.safetensors")
    on_start = clip_training(tmp_path / "second", 1, begin_with=tmp_path / "first/out")
    assert on_start.main(HashTeacher()) == 0 and "begin anew: nothing" in capsys.readouterr().out
    second = load_file(tmp_path / "second/out/open_clip_model.safetensors")
    table = "token_embedding.weight"
    assert torch.equal(first[table], second[table]), "the text tower stands still"
    assert not torch.equal(first["visual.head.mlp.fc2.weight"], second["visual.head.mlp.fc2.weight"])
    assert (tmp_path / "first/out/tokenizer.json").read_bytes() == (tmp_path / "second/out/tokenizer.json").read_bytes()
    assert not (tmp_path / "second/work/text").exists(), "the text stage is left out"


@pytest.mark.parametrize("part", ["pull_weight", "pair_weight", "word_weight", "presence_weight"])
def test_each_part_of_the_placing_loss_reaches_the_weights(
    tmp_path: Path, part: str, with_all_parts: torch.Tensor
) -> None:
    assert not torch.equal(with_all_parts, trained(tmp_path, **{part: 0.0}))


def trained(folder: Path, **changes: float) -> torch.Tensor:
    """The last weights of the image tower after a step with a changed recipe."""
    training = clip_training(folder, 1)
    training = replace(training, recipe=replace(training.recipe, **changes))
    assert training.main(HashTeacher()) == 0
    return load_file(folder / "out/open_clip_model.safetensors")["visual.head.mlp.fc2.weight"]


@pytest.fixture(scope="module")
def with_all_parts(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    folder = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return trained(folder)


def test_a_training_goes_on_with_its_own_settings_alone(tmp_path: Path) -> None:
    assert clip_training(tmp_path, 1).main(HashTeacher()) == 0
    written = (tmp_path / "out/recipe.json").read_bytes()
    with pytest.raises(ConfigError, match="other settings"):
        clip_training(tmp_path, 1, whitening=0.2).main(HashTeacher())
    assert (tmp_path / "out/recipe.json").read_bytes() == written, "weights keep the recipe that they were made by"
    with pytest.raises(ConfigError, match="another text tower"):
        wider = replace(clip_training(tmp_path / "wider", 1, begin_with=tmp_path / "out"), text_steps=6)
        shape = replace(wider.recipe.shape, text_width=48, text_heads=3)
        replace(wider, recipe=replace(wider.recipe, shape=shape)).main(HashTeacher())


def test_a_clip_that_is_stopped_before_its_first_step_goes_on(tmp_path: Path) -> None:
    class Interrupted(HashTeacher):
        def embed(self, texts: list[str]) -> torch.Tensor:
            if len(texts) == len(KINDS) + len(SURFACES):  # asked for once: the second Ctrl-C would end it at once
                signal.raise_signal(signal.SIGINT)
            return super().embed(texts)

    assert clip_training(tmp_path / "first", 1).main(HashTeacher()) == 0
    whole, parts = (clip_training(tmp_path / name, 2, begin_with=tmp_path / "first/out") for name in ("whole", "parts"))
    assert parts.main(Interrupted()) == 130
    assert parts.main(HashTeacher()) == whole.main(HashTeacher()) == 0
    found = [training.output / "open_clip_model.safetensors" for training in (whole, parts)]
    assert found[0].read_bytes() == found[1].read_bytes()
