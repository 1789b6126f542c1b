"""The pixel analyser's answers about pictures that anyone can name the colours of, and how it treats labels."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deployments.clip.classifier import score
from deployments.clip.labels import LabelSet, load_labels, parse_labels
from deployments.clip.pixels.analyser import PixelAnalyser, load_prototypes
from deployments.clip.pixels.measures import MEASURE_NAMES
from deployments.clip.settings import DEFAULT_LABELS_FILE
from deployments.errors import SettingsError
from deployments.types import Scores
from tests.support.pictures import DRAWINGS, PHOTOGRAPHS, picture, pixels

DEFAULT_LABELS = load_labels(DEFAULT_LABELS_FILE)

# picture | category | labels that are in the top 3, all of them | labels that are not, none of them
TRUTHS = """
astronaut       | color_palette | warm tones, high contrast        | cool tones, monochrome, pastel, muted
brick           | color_palette | monochrome                       | warm tones, cool tones, vibrant, neon
camera          | color_palette | monochrome, high contrast        | warm tones, cool tones, saturated, pastel
chelsea         | color_palette | warm tones, earth tones, natural | cool tones, monochrome, neon
china           | color_palette | high contrast, natural           | warm tones, monochrome, neon, saturated
coffee          | color_palette | warm tones                       | cool tones, monochrome, pastel, muted
flower          | color_palette | vibrant                          | monochrome, pastel, muted, low contrast
grass           | color_palette | monochrome                       | warm tones, vibrant, neon, saturated
hubble          | color_palette | muted, monochrome                | warm tones, pastel, saturated, vibrant
ihc             | color_palette | earth tones, muted               | monochrome, neon, saturated
moon            | color_palette | monochrome, low contrast         | warm tones, vibrant, high contrast
motorcycle      | color_palette | natural, warm tones              | cool tones, monochrome, pastel, neon
page            | color_palette | monochrome                       | warm tones, vibrant, neon, saturated
retina          | color_palette | warm tones, saturated            | cool tones, monochrome, pastel, muted
rocket          | color_palette | cool tones                       | warm tones, pastel, neon, monochrome
text            | color_palette | monochrome, low contrast         | vibrant, high contrast, warm tones
candle          | color_palette | warm tones                       | cool tones, monochrome, pastel, neon
centred disc    | color_palette | warm tones                       | cool tones, monochrome, neon
checkerboard    | color_palette | monochrome, high contrast        | low contrast, vibrant, warm tones, cool tones
fog             | color_palette | low contrast, muted              | vibrant, saturated, high contrast, neon
forest          | color_palette | natural                          | monochrome, cool tones, pastel, neon
grey            | color_palette | monochrome, low contrast         | vibrant, warm tones, cool tones
line drawing    | color_palette | monochrome                       | vibrant, saturated, warm tones, cool tones
neon on black   | color_palette | neon, high contrast, vibrant     | monochrome, pastel, muted
night sky       | color_palette | cool tones, muted                | warm tones, pastel, vibrant, saturated
pastel gradient | color_palette | pastel, low contrast             | saturated, neon, high contrast, monochrome
pixel sprite    | color_palette | saturated, vibrant               | monochrome, muted, pastel
sea and sky     | color_palette | cool tones                       | warm tones, monochrome, neon
sepia           | color_palette | earth tones, warm tones, muted   | cool tones, vibrant, neon
sunset          | color_palette | warm tones                       | cool tones, monochrome, pastel, muted
vivid stripes   | color_palette | vibrant, saturated               | monochrome, muted, pastel

astronaut       | mood | energetic                  | dark, melancholic, calm
camera          | mood | dramatic                   | bright, joyful, romantic
chelsea         | mood | intimate                   | dark, bright, melancholic
china           | mood |                            | dark, mysterious, melancholic
coffee          | mood | intimate, energetic        | dark, bright, melancholic
flower          | mood | dramatic                   | bright, calm, peaceful
grass           | mood | melancholic                | dark, bright, joyful
hubble          | mood | dark, mysterious           | bright, joyful, romantic
ihc             | mood | bright                     | dark, mysterious
moon            | mood | calm, melancholic          | dark, bright, joyful, energetic
page            | mood | bright                     | dark, joyful, energetic
retina          | mood | intimate                   | bright, calm, melancholic
rocket          | mood | mysterious                 | bright, joyful, energetic
candle          | mood | dark, mysterious           | bright, joyful, energetic
centred disc    | mood | bright                     | dark, mysterious, dramatic
fog             | mood | calm, peaceful             | dark, energetic, joyful
grey            | mood | calm, melancholic          | dark, bright, energetic, joyful
line drawing    | mood | bright, peaceful           | dark, mysterious
neon on black   | mood | dark, energetic            | bright, calm, peaceful
night sky       | mood | dark, mysterious           | bright, joyful, energetic
pastel gradient | mood | bright, calm               | dark, mysterious, dramatic
sea and sky     | mood | peaceful, calm             | dark, tense, joyful
sepia           | mood | intimate                   | dark, bright, energetic
sunset          | mood | romantic                   | dark, bright, melancholic
vivid stripes   | mood | joyful, whimsical          | dark, melancholic, calm

astronaut       | composition | asymmetrical               | symmetrical, minimal
brick           | composition | aerial view                | minimal, centered subject
china           | composition | wide angle                 | minimal, symmetrical
chelsea         | composition | close-up                   | minimal, wide angle
flower          | composition | centered subject           | minimal, asymmetrical, wide angle
grass           | composition | aerial view                | minimal, centered subject, symmetrical
retina          | composition | symmetrical, centered subject | minimal, asymmetrical
candle          | composition | symmetrical, minimal       | asymmetrical, aerial view
centred disc    | composition | symmetrical, minimal, centered subject | asymmetrical
checkerboard    | composition | symmetrical                | asymmetrical, minimal
grey            | composition | symmetrical, minimal       | asymmetrical

astronaut       | style | photorealistic   | cartoon, pixel art, sketch
chelsea         | style | photorealistic   | cartoon, pixel art, sketch
coffee          | style | photorealistic   | cartoon, pixel art, sketch
motorcycle      | style | photorealistic   | cartoon, pixel art, sketch
page            | style | sketch           | cartoon, anime
text            | style | sketch           | cartoon, anime
line drawing    | style | sketch           | photorealistic, oil painting
pixel sprite    | style | pixel art, cartoon | photorealistic, watercolor, sketch
sepia           | style | vintage          | cartoon, anime
vivid stripes   | style | abstract         | photorealistic, sketch

china           | subjects | landscape    | space, indoor, food
hubble          | subjects | space        | landscape, food, people
night sky       | subjects | space        | landscape, food, people
forest          | subjects | forest, nature | space, seascape, urban
sea and sky     | subjects | seascape     | space, forest, indoor
coffee          | subjects | food, indoor | space, seascape, forest
vivid stripes   | subjects | abstract     | space, portrait, indoor
"""


@cache
def analysis_of(name: str) -> Scores:
    return analyse(picture(name))


def analyse(image: Image.Image, labels: LabelSet = DEFAULT_LABELS, edge_px: int = 224) -> Scores:
    model = PixelAnalyser()
    return score(model.logits(model.features([pixels(image, edge_px)]), model.prepare(labels))[0], labels, top=3)


def best(name: str, category: str) -> list[str]:
    return top_3(analysis_of(name), category)


def top_3(analysis: Scores, category: str) -> list[str]:
    return [label.value for label in analysis[category]]


def label_set(**changes: list[str]) -> LabelSet:
    """Make a small label set with some categories replaced."""
    content = {
        "style": ["sketch", "abstract"],
        "mood": ["dark", "bright"],
        "composition": ["minimal"],
        "color_palette": ["warm tones", "cool tones"],
        "subjects": ["space", "abstract"],
    }
    return parse_labels({name: {"labels": labels} for name, labels in (content | changes).items()}, "test")


@pytest.mark.parametrize("truth", [line for line in TRUTHS.splitlines() if line])
def test_answers_about_known_pictures(truth: str) -> None:
    name, category, right, wrong = (part.strip() for part in truth.split("|"))
    answers = best(name, category)
    labels = set(DEFAULT_LABELS.root[category].labels)
    expected = {label.strip() for label in right.split(",") if label.strip()}
    excluded = {label.strip() for label in wrong.split(",")}
    assert expected | excluded <= labels, "the table names a label that does not exist"
    assert expected <= set(answers)
    assert not excluded & set(answers)


@pytest.mark.parametrize(
    ("category", "label", "names"),
    [
        ("color_palette", "monochrome", ["brick", "camera", "moon", "checkerboard", "grey"]),
        ("color_palette", "warm tones", ["sunset"]),
        ("mood", "dark", ["hubble", "night sky", "candle"]),
    ],
)
def test_what_a_picture_is_above_all(category: str, label: str, names: list[str]) -> None:
    assert {name: best(name, category)[0] for name in names} == dict.fromkeys(names, label)


def test_the_best_colour_stands_out_without_being_certain() -> None:
    scores = {name: analysis_of(name)["color_palette"][0].score for name in (*PHOTOGRAPHS, *DRAWINGS)}
    assert all(2 / len(DEFAULT_LABELS.root["color_palette"].labels) < score < 0.9 for score in scores.values()), scores


@pytest.mark.parametrize("name", ["astronaut", "coffee", "china", "rocket", "sea and sky", "neon on black"])
def test_a_poor_jpeg_gets_the_same_colour_answers(name: str) -> None:
    file = io.BytesIO()
    picture(name).save(file, "JPEG", quality=50)
    with Image.open(file) as jpeg:
        assert set(top_3(analyse(jpeg), "color_palette")) == set(best(name, "color_palette"))


@pytest.mark.parametrize("edge_px", [112, 336, 512])
@pytest.mark.parametrize("name", ["chelsea", "rocket", "sunset", "checkerboard"])
def test_a_picture_of_another_size_keeps_its_best_colour_and_mood_among_the_best(name: str, edge_px: int) -> None:
    resized = analyse(picture(name), edge_px=edge_px)
    for category in ("color_palette", "mood"):
        assert best(name, category)[0] in top_3(resized, category)


def test_a_pattern_finer_than_the_input_is_seen_as_its_mean() -> None:
    fine = np.indices((448, 448)).sum(axis=0) % 2 * 255
    checks = Image.fromarray(np.repeat(fine[..., None], 3, axis=2).astype(np.uint8))
    assert "low contrast" in top_3(analyse(checks, edge_px=448), "color_palette")


def test_every_default_label_has_a_prototype_and_every_measure_a_use() -> None:
    assert PixelAnalyser().unknown_labels(DEFAULT_LABELS) == []
    used = {
        name for category in load_prototypes().values() for prototype in category.values() for name in prototype.targets
    }
    assert used == set(MEASURE_NAMES)


def test_a_batch_answers_as_its_pictures_would_alone() -> None:
    model = PixelAnalyser()
    prepared = model.prepare(DEFAULT_LABELS)
    batch = [pixels(picture(name)) for name in ("coffee", "rocket", "grey")]
    together = model.logits(model.features(batch), prepared)
    assert together.shape == (3, DEFAULT_LABELS.count)
    assert together.dtype == np.float32
    for row, alone in zip(together, batch, strict=True):
        np.testing.assert_allclose(row, model.logits(model.features([alone]), prepared)[0], rtol=1e-4, atol=1e-4)
    assert model.logits(model.features([]), prepared).shape == (0, DEFAULT_LABELS.count)


def test_a_label_without_prototype_is_named_and_never_chosen_and_a_category_of_such_is_undecided() -> None:
    labels = label_set(mood=["cosy", "dark", "bright"], subjects=["cat", "dog"])
    assert PixelAnalyser().unknown_labels(labels) == ["mood: cosy", "subjects: cat", "subjects: dog"]
    analysis = analyse(picture("coffee"), labels)
    assert (analysis["mood"][-1].value, analysis["mood"][-1].score) == ("cosy", 0)
    assert [label.score for label in analysis["subjects"]] == pytest.approx([0.5, 0.5])


def test_a_category_beyond_the_contract_s_is_empty_as_nothing_in_it_is_measured() -> None:
    labels = label_set(lighting=["golden hour", "dark"])
    assert PixelAnalyser().unknown_labels(labels) == []
    analysis = analyse(picture("coffee"), labels)
    assert (analysis["lighting"], len(analysis["mood"])) == ((), 2)


def test_the_same_label_in_two_categories_has_two_prototypes() -> None:
    analysis = analyse(picture("sunset"), label_set())
    style, subject = (
        {label.value: label.score for label in analysis[category]}["abstract"] for category in ("style", "subjects")
    )
    assert style != pytest.approx(subject)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32), st.integers(0, 255))
@settings(max_examples=40)
def test_any_picture_of_any_size_gets_finite_logits(height: int, width: int, seed: int, top: int) -> None:
    model = PixelAnalyser()
    noise = np.random.default_rng(seed).integers(0, top + 1, (height, width, 3), np.uint8)
    assert np.isfinite(model.logits(model.features([noise]), model.prepare(DEFAULT_LABELS))).all()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("mood: {dark: {gloom: [1, 0.1]}}", "mood.dark: .*no such measure: gloom"),
        ("moods: {dark: {lightness: [0, 0.1]}}", "no such category: moods"),
        ("mood: {dark: {lightness: [0, 0]}}", "mood.dark.targets.lightness.1"),
        ("mood: {dark: {lightness: 0}}", "mood.dark.targets.lightness"),
        ("mood: {dark: {}}", "mood.dark.targets"),
        ("mood: {dark: 3}", "mood.dark"),
        ("mood: [", "not valid YAML"),
        ("", "cannot be read"),
    ],
)
def test_a_wrong_prototype_file_is_refused_by_name(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "prototypes.yaml"
    if content:
        file.write_text(content)
    with pytest.raises(SettingsError, match=complaint) as refusal:
        load_prototypes(file)
    assert str(file) in str(refusal.value)
