"""The research agent's four ways to search."""

from __future__ import annotations

import pytest

QUESTION = "How did sailors find their longitude at sea?"


@pytest.fixture
def searching(example):
    return example("research_agent", "searching")


@pytest.fixture
def texts(searching):
    from tests.unit.examples.conftest import EXAMPLES

    return searching.shelf(EXAMPLES / "research_agent/corpus")


@pytest.fixture
def small(searching):
    titles = {"a": "Cats", "b": "Dogs and cats", "c": "Birds"}
    bodies = {"a": "The cat sleeps. It is a cat.", "b": "The dog barks.", "c": "Birds sing."}
    return {name: searching.Text(name, titles[name], bodies[name]) for name in titles}


def test_the_first_line_of_a_text_is_its_title(texts):
    assert texts["sextant"].title == "The sextant"
    assert texts["sextant"].body.startswith("A sextant measures")


def test_a_text_falls_into_sentences(small):
    assert small["a"].sentences == ["The cat sleeps.", "It is a cat."]


def test_small_words_and_the_plural_do_not_count(searching):
    assert searching.words("What did the sailors do with H4?") == ["sailor", "h4"]


def test_a_title_counts_by_the_words_it_shares(searching, small):
    assert searching.by_title("Do cats and dogs fight?", small) == {"b": 2, "a": 1}


def test_a_text_counts_by_how_often_it_has_the_words(searching, small):
    assert searching.by_count("cats", small) == {"a": 2}


def test_a_rare_word_weighs_more_than_one_that_every_text_has(searching, small):
    rarity = searching.rarity_of(small)
    assert rarity["bird"] > rarity["cat"] > 0
    assert next(iter(searching.by_tf_idf("cats and birds", small))) == "c"


def test_a_cosine_lies_between_0_and_1(searching, texts):
    assert all(0 < score <= 1 for score in searching.by_tf_idf(QUESTION, texts).values())


def test_letters_find_what_is_misspelt(searching, texts):
    assert next(iter(searching.by_letters("A sekstant mesures the angel", texts))) == "sextant"


@pytest.mark.parametrize("method", ["title", "count", "tf_idf"])
def test_every_method_finds_longitude_and_puts_the_best_first(searching, texts, method):
    found = searching.METHODS[method](QUESTION, texts)
    assert "lunar_distances" in found
    assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.parametrize("method", ["title", "count", "tf_idf"])
def test_words_that_no_text_has_find_nothing(searching, texts, method):
    assert searching.METHODS[method]("Which volcano erupted?", texts) == {}
