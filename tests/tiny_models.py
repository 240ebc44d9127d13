"""Small random models, saved in the formats in which real ones come."""

import json
from pathlib import Path

import torch

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 64, "layers": 3, "width": 48, "head_width": 16, "patch_size": 16}
WORDS = ("a", "red", "blue", "chair", "table", "on", "the", "floor")


def clip_config(text: dict | None = None, **vision: object) -> dict:
    """An open_clip configuration: a small ViT unless `vision` says otherwise."""
    vision = vision if "timm_model_name" in vision else {**VIT, **vision}
    return {"embed_dim": 24, "vision_cfg": vision, "text_cfg": {**TEXT, **(text or {})}}


def timm_config(model: str, size: int, pool: str, proj: str) -> dict:
    """An open_clip configuration around a picture tower of timm."""
    vision = {"timm_model_name": model, "timm_model_pretrained": False, "timm_pool": pool, "timm_proj": proj}
    return {**clip_config(image_size=size, **vision), "custom_text": True}


def add_architecture(folder: Path, name: str, config: dict) -> str:
    """Make open_clip know `name`, as it knows ViT-B-16."""
    import open_clip

    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return name


def random_clip(name: str, seed: int = 0) -> torch.nn.Module:
    """A model of a known architecture with random weights, biases and norms included."""
    import open_clip

    torch.manual_seed(seed)
    model = open_clip.create_model(name).eval()
    for key, value in model.named_parameters():
        if value.ndim == 1 and "logit" not in key:
            value.data += 0.2 * torch.randn_like(value)
    return model


def save_clip_folder(folder: Path, config: dict, model: torch.nn.Module, **preprocess: object) -> Path:
    """A `local-dir:` folder of open_clip; its tokenizer is of words when the configuration asks for one of its own."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    settings = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "interpolation": "bilinear", **preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": settings}))
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    if "hf_tokenizer_name" in config["text_cfg"]:
        save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json of a tokenizer of a few words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("<pad>", "<start>", "<end>", "<unk>")
    vocabulary = {word: index for index, word in enumerate((*special, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    names = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def save_dino(folder: Path, kind: str, seed: int = 0, **changes: object) -> Path:
    """A folder as `save_pretrained` writes it. `kind`: "dino", "dinov2", "registers", "dinov3"."""
    import transformers as t

    torch.manual_seed(seed)
    common = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2}
    sizes = {"image_size": 32, "patch_size": 8, **common, **changes}
    model = {
        "dino": lambda: t.ViTModel(t.ViTConfig(intermediate_size=64, **sizes)),
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**sizes)),
        "registers": lambda: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(num_register_tokens=3, **sizes)),
        "dinov3": lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(intermediate_size=64, num_register_tokens=2, **sizes)),
    }[kind]()
    model.save_pretrained(folder)
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "resample": 2}
    sizes = {"size": {"shortest_edge": 36}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, **sizes}))
    return folder
