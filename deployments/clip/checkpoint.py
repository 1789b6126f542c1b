"""A checkpoint of the CLIP or SigLIP family as torch and transformers read it: vision tower, and texts as embeddings.

On CPU cores neither is needed for anything else, and together they take 290 MiB. So this is a program too, which does
what `CheckpointProcess` asks, a line of JSON for each question and answer, and takes that memory with it when it ends.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino
import torch
import transformers
from numpy.typing import NDArray
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from transformers import AutoImageProcessor, AutoModel, CLIPTokenizer, PreTrainedTokenizerFast

from deployments.clip.backends.base import TowerFacts, require_numbers
from deployments.clip.settings import DeviceName, Precision, PrecisionName

# Instruction sets that multiply bfloat16 natively; without one torch emulates it, slower than float32.
_NATIVE_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")


TEXTS_AT_ONCE = 64
"""In one forward pass of the text tower: ten MB of activations; more are no faster."""
NAMED_WEIGHTS = 3
"""How many are named of those that are wrong: enough to see what they have in common."""


class Preprocessing(NamedTuple):
    """What a model does to a picture: its edge in px, then that of the square cut from its middle, the filter of its
    resizing (Pillow's number), then what it makes of 0..1 values, per channel."""

    input_size_px: int
    crop_px: int
    resample: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class VisionTower(torch.nn.Module):
    """Normalisation, vision model, projection where there is one, and unit length, for an engine to run as a whole.

    Args:
        model: in float32 on the CPU, in evaluation mode; its vision part is taken, not copied.
        preprocessing: the model's own.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, model: Any, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.vision = model.vision_model
        # SigLIP's pooling head ends where its texts do.
        self.projection = getattr(model, "visual_projection", torch.nn.Identity())
        bias = getattr(model, "logit_bias", torch.zeros(()))
        self.facts = TowerFacts(
            preprocessing.input_size_px, preprocessing.resample, bias.item(), model.num_parameters()
        )
        # 0..255 → normalised in one multiply and one add per channel.
        mean = torch.tensor(preprocessing.mean).view(3, 1, 1)
        std = torch.tensor(preprocessing.std).view(3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Encode uint8 (pictures, edge, edge, 3) as float32 (pictures, embedding), in the vision model's dtype."""
        values = (self._cropped(pictures).permute(0, 3, 1, 2) * self.scale + self.shift).to(self.vision.dtype)
        return torch.nn.functional.normalize(self.projection(self.vision(values).pooler_output.float()), dim=-1)

    def _cropped(self, pictures: torch.Tensor) -> torch.Tensor:
        edge, crop = self.preprocessing.input_size_px, self.preprocessing.crop_px
        if crop <= edge:
            first = (edge - crop) // 2
            return pictures[:, first : first + crop, first : first + crop]
        before = (crop - edge + 1) // 2
        after = crop - edge - before
        return torch.nn.functional.pad(pictures, (0, 0, before, after, before, after))


def read_tower(folder: Path) -> VisionTower:
    """Read the vision tower of a folder in hub format.

    Raises:
        OSError: a file is missing or broken, or does not hold what a model of either family needs.
    """
    model = _read(folder)
    config = model.config.vision_config
    if not getattr(config, "vision_use_head", True):
        raise OSError("its vision model has no pooling head (vision_use_head), and so gives pictures no embedding")
    return VisionTower(model, _read_preprocessing(folder, config.image_size))


def _read_preprocessing(folder: Path, image_size_px: int) -> Preprocessing:
    """Read how pictures are prepared; where that is not all said, they become as large as the model looks at.

    transformers would take 224 px for what is not said, whatever the model.

    Raises:
        OSError: they become no squares, or others than the model looks at.
    """
    load: Any = AutoImageProcessor.from_pretrained
    processor = load(folder, backend="pil", local_files_only=True)
    said, _ = processor.get_image_processor_dict(folder, local_files_only=True)
    edge_px = cut_px = image_size_px
    if said.get("size") and (said.get("crop_size") or not processor.do_center_crop):
        edge_px = cut_px = _square_px(processor.size)
        if processor.do_center_crop:
            cut_px = _square_px(processor.crop_size)
    if cut_px != image_size_px:
        raise OSError(f"it prepares pictures of {cut_px} px, and its vision model looks at {image_size_px} px")
    return Preprocessing(
        edge_px if processor.do_resize else cut_px,
        cut_px,
        int(processor.resample),
        tuple(processor.image_mean),
        tuple(processor.image_std),
    )


def _square_px(size: Any) -> int:
    px: int | None = size.shortest_edge or size.height
    if not px or size.longest_edge or (size.width or px) != px:
        raise OSError("it prepares pictures that are no squares of one size, and nothing else is read here")
    return px


class TextTower:
    """The text tower of a folder in hub format, and its tokenizer.

    In float32, since the rounding of a lower precision would be in every answer. Of a text that is longer than the
    model reads, the end is left away.

    Raises:
        OSError: a file is missing or broken, or does not hold what a model of either family needs.
    """

    def __init__(self, folder: Path) -> None:
        self._model = _read(folder)
        kind: Any = CLIPTokenizer if self._model.config.model_type == "clip" else PreTrainedTokenizerFast
        self._tokenizer = kind.from_pretrained(folder, local_files_only=True)

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Encode texts, scaled by the model's temperature: float32, (embedding, texts).

        Those of about one length together, so that few tokens are padding.

        Raises:
            OSError: the weights are no numbers.
        """
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        parts = [order[start : start + TEXTS_AT_ONCE] for start in range(0, len(order), TEXTS_AT_ONCE)]
        embeddings = torch.cat([self._embedded([texts[place] for place in part]) for part in parts])
        scaled = embeddings[np.argsort(order)] * self._model.logit_scale.exp()
        matrix: NDArray[np.float32] = scaled.T.contiguous().numpy()
        require_numbers(matrix, "text")
        return matrix

    def _embedded(self, texts: list[str]) -> torch.Tensor:
        embedded = self._model.get_text_features(**self._tokens(texts)).pooler_output
        return torch.nn.functional.normalize(embedded, dim=-1)

    def _tokens(self, texts: list[str]) -> Mapping[str, torch.Tensor]:
        """Give each family's model its texts as it was trained on them.

        SigLIP's were lower-case, filled up to the full length, and read without a mask (arXiv 2303.15343; 2502.14786,
        whose published tokenizers leave case as it is: discussion 22 of google/siglip2-base-patch16-224). The class of
        tokenizer that it names needs sentencepiece; `tokenizer.json` says the same.
        """
        config = self._model.config
        bounds = {"truncation": True, "max_length": config.text_config.max_position_embeddings, "return_tensors": "pt"}
        if config.model_type == "clip":
            tokens: Mapping[str, torch.Tensor] = self._tokenizer(texts, padding=True, **bounds)
            return tokens
        filled = self._tokenizer([text.lower() for text in texts], padding="max_length", **bounds)
        return {"input_ids": filled["input_ids"]}


def embed_texts(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    """Encode texts with a text tower that is read for them alone: see `TextTower`."""
    return TextTower(folder).embed(texts)


def converted(tower: VisionTower) -> openvino.Model:
    """Trace a tower into an OpenVINO model that takes batches of any size.

    By the frontend, because `openvino.convert_model` reports each conversion to the vendor.
    """
    edge = tower.preprocessing.input_size_px
    example = torch.from_numpy(np.zeros((2, edge, edge, 3), np.uint8))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(tower, example_input=(example,))
        frontend = FrontEndManager().load_by_framework("pytorch")
        model: openvino.Model = frontend.convert(frontend.load(decoder))
    model.reshape([-1, edge, edge, 3])
    return model


def choose_precision(
    setting: Precision, device: DeviceName, capabilities: Mapping[str, object] | None = None
) -> PrecisionName:
    """Resolve the precision setting for a device: the fastest format that this processor computes natively.

    Measured on 2 cores with AMX: ViT-B/32 in bfloat16 runs about three times as fast as in float32.

    Args:
        setting: `auto`, or the format's own name.
        device: where the model runs.
        capabilities: the processor's instruction sets by torch's names; asked of torch when None.
    """
    if setting != "auto":
        return setting
    if device == "cuda":
        return "float16"
    if capabilities is None:
        capabilities = torch.cpu.get_capabilities()
    return "bfloat16" if any(capabilities.get(name) for name in _NATIVE_BFLOAT16) else "float32"


def _read(folder: Path) -> Any:
    """Map a model's weights; what is never computed with takes next to no memory.

    Raises:
        OSError: a file is missing or broken, or a weight missing, left over or of another shape. transformers itself
            would put random numbers in its place and only log that (microsoft/Cream#254).
    """
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    loaded: Any = AutoModel.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
    )
    model = loaded[0]
    found: Mapping[str, Collection[Any]] = loaded[1]
    shapes = [f"{name} {tuple(has)} for {tuple(wants)}" for name, has, wants in found["mismatched_keys"]]
    wrong = {"missing": found["missing_keys"], "of no use": found["unexpected_keys"], "of another shape": shapes}
    told = [f"{_named(weights)} {what}" for what, weights in wrong.items() if weights]
    if told:
        raise OSError(f"these weights are not a whole {type(model).__name__}: {'; '.join(told)}")
    return model


def _named(weights: Collection[str]) -> str:
    others = len(weights) - NAMED_WEIGHTS
    first = ", ".join(sorted(weights)[:NAMED_WEIGHTS])
    return f"{first} and {others} more" if others > 0 else first


def answer(folder: Path, question: Mapping[str, Any]) -> dict[str, Any]:
    """Do what one line asks: `{"convert": PATH, "precision": SETTING}`, or `{"texts": […], "into": PATH}`."""
    if "convert" in question:
        tower = read_tower(folder)
        openvino.save_model(converted(tower), question["convert"], compress_to_fp16=False)
        return {"tower": tower.facts, "precision": choose_precision(question["precision"], "cpu")}
    np.save(question["into"], _text_tower(folder).embed(question["texts"]))
    return {}


_text_tower = functools.lru_cache(maxsize=1)(TextTower)
"""For a process that ends when there are no more questions."""


def main(folder: Path) -> None:
    """Answer questions until there are no more."""
    # Nothing else may speak where the answers go.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        try:
            told = answer(folder, json.loads(line))
        except Exception as error:
            told = {"error": f"{error}"}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
