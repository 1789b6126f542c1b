"""SigLIP models with random weights, saved as the hub has SigLIP 1 and SigLIP 2 of fixed resolution; for tests.

Both have `model_type: siglip`. The first names a tokenizer class that needs sentencepiece, the second Gemma's, which
leaves case as it is; the first resizes bicubic, the second bilinear (google/siglip-base-patch16-224 and
google/siglip2-base-patch16-512, preprocessor_config.json and tokenizer_config.json).
"""

from __future__ import annotations

import json
import math
import re
import string
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Resampling
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import SiglipConfig, SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

MAX_TOKENS = 64
PAD, UNKNOWN = "<pad>", "<unk>"
EDGE_PX = 256
TRAINED_LOGIT_SCALE, TRAINED_LOGIT_BIAS = math.log(110), -15.0
"""About what SigLIP's training ends at (arXiv 2303.15343, section 3): a label that is not seen is far below 0."""
CONTENT_GAIN, ATTENTION_GAIN = 50.0, 10.0
"""Lift what differs between inputs above what does not: patches and tokens; what is taken of them elsewhere."""


def make_tiny_siglip(folder: Path, *, version: int = 1, edge_px: int = EDGE_PX, **vision: Any) -> Path:
    """Save a SigLIP model that answers in milliseconds.

    Args:
        folder: created if need be; holds config, image processor, tokenizer and weights afterwards.
        version: 1, or 2 of fixed resolution.
        edge_px: of the square that it looks at.
        vision: other settings of the vision model.
    """
    tokenizer = _unigram_tokenizer() if version == 1 else _byte_fallback_tokenizer()
    layers = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1}
    text = {**layers, **ids, "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": MAX_TOKENS}
    config = SiglipConfig(text_config=text, vision_config={**layers, "image_size": edge_px, "patch_size": 32, **vision})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = SiglipModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(TRAINED_LOGIT_SCALE)
        model.logit_bias.fill_(TRAINED_LOGIT_BIAS)
        model.vision_model.embeddings.patch_embedding.weight.mul_(CONTENT_GAIN)
        model.text_model.embeddings.token_embedding.weight.mul_(CONTENT_GAIN)
        for name, weight in model.named_parameters():
            if "v_proj.weight" in name or "in_proj_weight" in name:
                weight.mul_(ATTENTION_GAIN)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    pad, kind = ("</s>", "SiglipTokenizer") if version == 1 else (PAD, "GemmaTokenizer")
    said = {
        "tokenizer_class": kind,
        "pad_token": pad,
        "eos_token": "</s>",
        "unk_token": UNKNOWN,
        "padding_side": "right",
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**said, "model_max_length": MAX_TOKENS, "model_input_names": ["input_ids"]})
    )
    SiglipImageProcessorPil(
        size={"height": edge_px, "width": edge_px},
        resample=Resampling.BICUBIC if version == 1 else Resampling.BILINEAR,
    ).save_pretrained(folder)
    return folder


def _unigram_tokenizer() -> Tokenizer:
    """Make one of the kind of SigLIP 1: T5's, of lower-case text without punctuation."""
    letters = ["\N{LOWER ONE EIGHTH BLOCK}", *string.ascii_letters, *string.digits, "in", "on", "tr"]
    pieces = [(PAD, 0.0), ("</s>", 0.0), (UNKNOWN, -20.0), *((letter, -5.0) for letter in letters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    punctuation = normalizers.Replace(Regex(rf"[{re.escape(string.punctuation)}]"), "")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), punctuation])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def _byte_fallback_tokenizer() -> Tokenizer:
    """Make one of the kind of SigLIP 2: Gemma's, which keeps case, with the padding that it was trained with."""
    special = [PAD, "</s>", "<bos>", UNKNOWN]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "\N{LOWER ONE EIGHTH BLOCK}", *string.printable]
    tokenizer = Tokenizer(
        models.BPE({token: place for place, token in enumerate(tokens)}, [], unk_token=UNKNOWN, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "\N{LOWER ONE EIGHTH BLOCK}")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.enable_padding(direction="right", pad_id=0, pad_token=PAD, length=MAX_TOKENS)
    return tokenizer
