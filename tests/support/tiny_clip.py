"""CLIP models with random weights, saved in the hub's format: a tiny one for tests, a full-size one for timing.

python -m tests.support.tiny_clip FOLDER [--full-size]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

BEGIN_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"
MERGES = (("i", "n"), ("o", "n"), ("t", "r"), ("a", "l</w>"), ("in", "g</w>"), ("e", "d</w>"), ("e", "r</w>"))
"""A few, so that some label texts are merged and most are spelt out: every text has tokens of its own."""
CLIP_MAX_TOKENS = 77
EDGE_PX = 224
PATCHES = {"image_size": EDGE_PX, "patch_size": 32}
CLIP_PROJECTION = 512
"""ViT-B/32's own, in the tiny model too: how far rounding moves a score depends on it."""
TRAINED_LOGIT_SCALE = math.log(100)
"""What CLIP's training ends at; a fresh model's 14 would make every softmax flat."""
CONTENT_GAIN = 50.0
"""Lifts what differs between inputs (patches, tokens) above what does not (positions, class token)."""
ATTENTION_GAIN = 10.0
"""Lets the class token, which the picture's features are read from, take more of the patches."""


def make_tiny_clip(folder: Path, *, seed: int = 0, safetensors: bool = True, edge_px: int = EDGE_PX) -> Path:
    """Save a CLIP model that loads in well under a second and answers in milliseconds.

    Args:
        folder: created if need be; holds config, image processor, tokenizer and weights afterwards.
        seed: of the weights; other seeds score differently.
        safetensors: false saves `pytorch_model.bin` alone, as older models on the hub are.
        edge_px: of the square that it looks at, whatever its image processor says: that is always the same.
    """
    tokenizer = _byte_tokenizer()
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**layers, **_token_ids(tokenizer), "projection_dim": CLIP_PROJECTION},
        vision_config={**layers, **PATCHES, "image_size": edge_px, "projection_dim": CLIP_PROJECTION},
        projection_dim=CLIP_PROJECTION,
    )
    return _save(folder, config, tokenizer, seed=seed, safetensors=safetensors)


def make_full_size_clip(folder: Path) -> Path:
    """Save a model of the size and shape of ViT-B/32 (151 million weights, 600 MB): as slow as the real one."""
    tokenizer = _byte_tokenizer()
    token_ids = {**_token_ids(tokenizer), "vocab_size": 49408}
    config = CLIPConfig(text_config=token_ids, vision_config=PATCHES)
    return _save(folder, config, tokenizer, seed=0, safetensors=True)


def _byte_tokenizer() -> CLIPTokenizer:
    byte_characters = sorted(ByteLevel.alphabet())
    tokens = [
        *byte_characters,
        *(f"{character}</w>" for character in byte_characters),
        *(left + right for left, right in MERGES),
        *(BEGIN_TOKEN, END_TOKEN),
    ]
    return CLIPTokenizer(
        vocab={token: token_id for token_id, token in enumerate(tokens)},
        # transformers annotates `list[str]`, and takes only pairs.
        merges=list(MERGES),  # type: ignore[arg-type]
        model_max_length=CLIP_MAX_TOKENS,
    )


def _token_ids(tokenizer: CLIPTokenizer) -> dict[str, int]:
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _save(folder: Path, config: CLIPConfig, tokenizer: CLIPTokenizer, *, seed: int, safetensors: bool) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(TRAINED_LOGIT_SCALE)
        model.vision_model.embeddings.patch_embedding.weight.mul_(CONTENT_GAIN)
        model.text_model.embeddings.token_embedding.weight.mul_(CONTENT_GAIN)
        for layer in model.vision_model.encoder.layers:
            layer.self_attn.v_proj.weight.mul_(ATTENTION_GAIN)
    model.save_pretrained(folder)
    if not safetensors:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": EDGE_PX}, crop_size={"height": EDGE_PX, "width": EDGE_PX}
    ).save_pretrained(folder)
    return folder


def main() -> None:
    """Save one into the named folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full-size", action="store_true", help="as large as ViT-B/32")
    arguments = parser.parse_args()
    (make_full_size_clip if arguments.full_size else make_tiny_clip)(arguments.folder)


if __name__ == "__main__":
    main()
