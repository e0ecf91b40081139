from functools import cache

import pytest

from kc_utils.probing.probe import ask
from kc_utils.models.loading import load
from tests.trained import MIXED

PROTOCOLS = {
    "decoder": ("cloze", "rank", "generate"),
    "encoder": ("cloze", "rank"),
    "encoder-decoder": ("cloze", "rank", "generate"),
}


@pytest.fixture(scope="session")
def tiny(trained_as):
    """The tiny trained model of a family, loaded; do not change it."""
    return cache(lambda family: load(trained_as(family).id))


@pytest.fixture(scope="session")
def asked(tiny):
    """What the tiny model of a family answers to MIXED, closed-book; do not change it."""

    @cache
    def ask_all(family: str):
        loaded = tiny(family)
        return ask(loaded.model, loaded.tokenizer, family, closed_book(family))

    return ask_all


def closed_book(family: str):
    """MIXED by every protocol that the family has but open-book, which takes longer."""
    return MIXED.model_copy(update={"protocols": PROTOCOLS[family]})
