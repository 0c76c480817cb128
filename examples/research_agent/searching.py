"""Four ways to search a shelf of short texts. Pure: a question and the texts in, scores by name out."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

_SMALL = """
a an and are as at be by can could did do does for from had has have how in is it its of on or so that the
their they this to was were what when where which who why will with
"""
SMALL_WORDS = frozenset(_SMALL.split())
"""Words that say nothing about what a text is about."""
Scores = dict[str, float]
"""How well each text that was found answers, by its name."""


class Text(NamedTuple):
    """One text of the shelf."""

    name: str
    title: str
    body: str

    @property
    def sentences(self) -> list[str]:
        return re.split(r"(?<=[.!?])\s+", self.body)


def shelf(directory: Path) -> dict[str, Text]:
    """Return the texts of a directory by name, in order; the first line of a file is its title."""
    texts = {}
    for path in sorted(directory.glob("*.txt")):
        title, _, body = path.read_text(encoding="utf-8").partition("\n")
        texts[path.stem] = Text(path.stem, title, " ".join(body.split()))
    return texts


def words(text: str) -> list[str]:
    """Return the words that say something, without the plural's s."""
    found = re.findall(r"[a-z0-9]+", text.lower())
    return [word.removesuffix("s") for word in found if word not in SMALL_WORDS]


def by_title(question: str, texts: Mapping[str, Text]) -> Scores:
    """How many of the question's words stand in the title."""
    asked = set(words(question))
    return _found({name: len(asked & set(words(text.title))) for name, text in texts.items()})


def by_count(question: str, texts: Mapping[str, Text]) -> Scores:
    """How often the question's words occur in the text."""
    asked = set(words(question))
    return _found({name: sum(word in asked for word in words(text.body)) for name, text in texts.items()})


def by_tf_idf(question: str, texts: Mapping[str, Text]) -> Scores:
    """The cosine between question and text, where a word weighs more the fewer texts have it."""
    counts = {name: Counter(words(f"{text.title} {text.body}")) for name, text in texts.items()}
    rarity = rarity_of(texts)

    def weights(counted: Counter[str]) -> dict[str, float]:
        return {word: (1 + math.log(n)) * rarity.get(word, 0.0) for word, n in counted.items()}

    def length(vector: dict[str, float]) -> float:
        return math.sqrt(sum(weight * weight for weight in vector.values())) or 1.0

    asked = weights(Counter(words(question)))
    vectors = {name: weights(counted) for name, counted in counts.items()}
    return _found(
        {
            name: sum(weight * vector.get(word, 0.0) for word, weight in asked.items())
            / (length(asked) * length(vector))
            for name, vector in vectors.items()
        }
    )


def by_letters(question: str, texts: Mapping[str, Text]) -> Scores:
    """How alike the question and the likest sentence are, letter by letter: slow, and forgiving."""
    return _found(
        {
            name: max(SequenceMatcher(None, question.lower(), s.lower()).ratio() for s in text.sentences)
            for name, text in texts.items()
        }
    )


METHODS: dict[str, Callable[[str, Mapping[str, Text]], Scores]] = {
    "title": by_title,
    "count": by_count,
    "tf_idf": by_tf_idf,
    "letters": by_letters,
}


def rarity_of(texts: Mapping[str, Text]) -> dict[str, float]:
    """Return how much each word of the shelf weighs: log(texts / texts that have it)."""
    having = Counter(word for text in texts.values() for word in set(words(f"{text.title} {text.body}")))
    return {word: math.log(len(texts) / n) for word, n in having.items()}


def _found(scores: Mapping[str, float]) -> Scores:
    """Return the scores above 0, best first, equal ones by name."""
    best_first = sorted(scores.items(), key=lambda one: (-one[1], one[0]))
    return {name: round(score, 6) for name, score in best_first if score > 0}
