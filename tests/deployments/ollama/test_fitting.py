from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployments.ollama.budget import COUNTS, Unit
from deployments.ollama.fitting import Fitter, Form, Tail

PIECES = "fox snow blue Dark brown a (soft) [x] \\ --ar 9:16 , ,, . 。 ， - … 狼がいる score_9 sunlit 1.5 :: —no"
WORDS = st.lists(st.sampled_from([*PIECES.split(), "\n", "\n\n", "\u2028", "\x07"]), max_size=60).map(" ".join)
ANSWER = WORDS | st.text() | st.builds(lambda words: words * 20, WORDS)


def form(unit: Unit, limit: int, **more: object) -> Form:
    return Form(COUNTS[unit], limit, **{"in_phrases": unit == "clip_tokens", **more})  # type: ignore[arg-type]


COLOURS = {"dark brown": "#4a3220", "blue": "#4682b4", "white": "#ffffff"}
FORMS = {
    "phrases": form("clip_tokens", 75, before=("score_9", "rating_safe"), weigh=True, weights={"snow": 1.2}),
    "short": form("clip_tokens", 20, before=("masterpiece",), weigh=True),
    "flux": form("words", 30, after=(Tail("Soft light.", frozenset({"sunlit"})),)),
    "midjourney": form("words", 12, after=(Tail("--ar 3:2"), Tail("--no people")), parameters=True),
    "characters": form("characters", 50),
    "flux2": form("words", 30, after=(Tail("The colors are {palette}."),), colours=COLOURS),
}


@pytest.mark.parametrize("name", FORMS)
@example("\N{MICRO SIGN}", [], False)
@example("\N{LATIN SMALL LETTER DOTLESS I}", [], False)
@given(ANSWER, st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_whatever_a_model_says_the_prompt_keeps_its_form(name: str, answer: str, cuts: list[int], cut: bool) -> None:
    asked = FORMS[name]
    fitter = Fitter(asked)
    bounds = sorted({0, len(answer), *(min(cut_at, len(answer)) for cut_at in cuts)})
    shown = "".join(fitter.take(answer[begin:end]) for begin, end in pairwise(bounds))
    rest, fitted = fitter.end(cut=cut)

    assert shown + rest == fitted.text, "what was shown stands"
    assert fitted.units == asked.count(fitted.text) <= asked.limit
    at_once = Fitter(asked)
    at_once.take(answer)
    assert at_once.end(cut=cut)[1] == fitted, "however the answer was cut into pieces"
    assert len(fitted.text.splitlines()) <= 1
    assert "  " not in fitted.text
    assert not re.search(r",\s*,|\s,", fitted.text)
    assert fitted.text.startswith(", ".join(asked.before))
    for tail in asked.after:
        assert all(code in fitted.text for code in asked.colours.values())
        assert tail.text in fitted.text or asked.colours or (tail.unless and "sunlit" in fitted.text.lower())
    body = fitted.text
    for part in (*asked.before, *(tail.text for tail in asked.after)):
        body = body.replace(part, "")
    if asked.colours:
        body = re.sub(r"The colors are .*|#\w{6}", "", body)
    said = {word.casefold() for word in re.findall(r"\w+", answer)} | {"1", "2"}
    assert {word.casefold() for word in re.findall(r"\w+", body)} <= said, "no word is cut"
    if asked.weigh:
        unweighed = re.sub(r"(?<!\\)\((?:\\.|[^()\[\]\\])+:1\.2\)", "", body)
        assert not re.search(r"(?<!\\)[()\[\]]", unweighed)
    if asked.parameters:
        assert "--" not in body


@pytest.mark.parametrize(
    ("name", "answer", "prompt"),
    [
        ("phrases", "a fox, snow, a fox (red)", "score_9, rating_safe, a fox, (snow:1.2), a fox \\(red\\)"),
        ("phrases", "Subjects: a fox.\n- soft light\n- snow", "score_9, rating_safe, a fox, soft light, (snow:1.2)"),
        ("phrases", "rating safe, score_9, snow", "score_9, rating_safe, rating safe, (snow:1.2)"),
        ("flux", "A fox in the snow. It runs", "A fox in the snow. It runs. Soft light."),
        ("phrases", "A fox. The colors are red, The light is low", "score_9, rating_safe, a fox, red, low"),
        ("flux", "a fox in the snow, running", "A fox in the snow, running. Soft light."),
        ("flux", "A sunlit fox, running.", "A sunlit fox, running."),
        ("phrases", "snow on a hill, deep snowdrifts", "score_9, rating_safe, (snow on a hill:1.2), deep snowdrifts"),
        ("flux2", "A fox.", "A fox. The colors are dark brown #4a3220, blue #4682b4 and white #ffffff."),
        (
            "flux2",
            "A light blue hill, a Blue sky, blue water. Dark brown soil",
            "A light blue hill, a Blue #4682b4 sky, blue water. Dark brown #4a3220 soil. The colors are white #ffffff.",
        ),
        ("midjourney", "A fox --ar 1:1 in the snow", "A fox in the snow. --ar 3:2 --no people"),
        ("midjourney", "A fox, in the snow, and so on and on and on", "A fox, in the snow. --ar 3:2 --no people"),
        ("midjourney", "fox . fox , , fox ,", "Fox . fox, fox. --ar 3:2 --no people"),
        ("midjourney", "A fox. It runs through the deep snow of the hills", "A fox. --ar 3:2 --no people"),
        ("flux", "狼、雪の中。走る", "狼、雪の中。走る。 Soft light."),
        ("characters", f"{'so long ' * 20}", "So long so long so long so long so long so long."),
    ],
)
def test_a_prompt_reads_as_its_generator_wants_it(name: str, answer: str, prompt: str) -> None:
    fitter = Fitter(FORMS[name])
    fitter.take(answer)
    assert fitter.end()[1].text == prompt
