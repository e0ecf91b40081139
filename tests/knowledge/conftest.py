from functools import cache

import pytest

from kc_utils.knowledge.probe import ask
from kc_utils.models.loading import load
from tests.trained import MIXED

PROTOCOLS = {
    "decoder": ("cloze", "rank", "openbook", "generate"),
    "encoder": ("cloze", "rank", "openbook"),
    "encoder-decoder": ("cloze", "rank", "openbook", "generate"),
}


@pytest.fixture(scope="session")
def tiny(trained_as):
    """The tiny trained model of a family, loaded; do not change it."""
    return cache(lambda family: load(trained_as(family).id))


@pytest.fixture(scope="session")
def asked(tiny):
    """What the tiny model of a family answers to MIXED by every protocol; do not change it."""

    @cache
    def ask_all(family: str):
        loaded = tiny(family)
        return ask(loaded.model, loaded.tokenizer, family, everything(family))

    return ask_all


def everything(family: str):
    """MIXED by every protocol that the family has."""
    return MIXED.model_copy(update={"protocols": PROTOCOLS[family]})
