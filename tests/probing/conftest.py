from functools import cache

import pytest
import torch

from kc_utils.errors import MissingData
from kc_utils.models.loading import load
from kc_utils.probing.evaluate import evaluate
from tests.trained import MIXED

FAMILIES = ("decoder", "encoder", "encoder-decoder")
PROTOCOLS = dict.fromkeys(FAMILIES, ("cloze", "rank", "generate")) | {"encoder": ("cloze", "rank")}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="session")
def tiny(trained_as):
    """The tiny trained model of a family, loaded; do not change it."""
    return cache(lambda family: load(trained_as(family).id))


@pytest.fixture(scope="session")
def evaluated(tiny):
    """The evaluation of the tiny model of a family on MIXED, by all protocols but open-book; do not change it."""

    @cache
    def run(family: str):
        probe = MIXED.model_copy(update={"protocols": PROTOCOLS[family]})
        return evaluate(tiny(family).model, tiny(family).tokenizer, family, probe)

    return run


@torch.no_grad()
def plain_logits(model, tokenizer, family, query):
    """Logits of the vocabulary at a query's gap, by plain use of tokenizer and model."""
    if family == "decoder":
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        ids = [start, *tokenizer(query.lead.rstrip(), add_special_tokens=False).input_ids]
        return model(torch.tensor([ids])).logits[0, -1]
    if family == "encoder":
        ids = tokenizer(query.filled(tokenizer.mask_token)).input_ids
        return model(torch.tensor([ids])).logits[0, ids.index(tokenizer.mask_token_id)]
    begun = [tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids("<extra_id_0>")]
    ids = torch.tensor([with_sentinel(tokenizer, query)])
    return model(input_ids=ids, decoder_input_ids=torch.tensor([begun])).logits[0, -1]


def with_sentinel(tokenizer, query) -> list[int]:
    """The tokens of a query with T5's sentinel in its gap, less those of white space alone."""
    ids, gap = tokenizer(query.filled("<extra_id_0>")).input_ids, tokenizer.convert_tokens_to_ids("<extra_id_0>")
    return [token for token in ids if token == gap or tokenizer.decode([token]).strip()]


def refused(call, *arguments):
    """What the call says that refuses absent or damaged data, in one line."""
    with pytest.raises(MissingData) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)
