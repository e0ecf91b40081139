"""Free answers: what counts as right, and greedy decoding against a naive loop."""

import pytest
import torch

from kc_utils.errors import BadRequest
from kc_utils.models.loading import load
from kc_utils.probing import protocols
from kc_utils.probing.facts import Fact
from kc_utils.probing.protocols import NEW_TOKENS, generate, generated, is_right
from kc_utils.probing.queries import Query, queries_of
from kc_utils.probing.scorers import SCORERS
from tests.trained import MIXED


@pytest.fixture(params=["decoder", "encoder-decoder"])
def family(request):
    return request.param


def test_an_answer_is_right_at_the_beginning_of_the_text():
    begun = {"paris, which is in France": "Paris", "St. Helier": "St Helier", " The Hague. ": "hague"}
    for text, answer in begun.items():
        assert is_right(text, ("Lima", answer)), text
    for text in ("torshavn", "N\u2019Djamena!", "Basse-Terre", "Groß", "as", "An"):
        assert is_right(text, ("Tórshavn", "N'Djamena", "basse terre", "gross", "As", "an")), text
    for text in ("Parisian", "not Paris", "", "!", "8th", "a"):
        assert not is_right(text, ("Paris", "!", "8", "an")), text


def greedily(family, loaded, query):
    """Greedy decoding by plain forward passes, a token at a time, without a batch or a cache."""
    tokens, model = loaded.tokenizer, loaded.model
    gap = SCORERS[family](tokens).gap(query)
    read, begun = (gap, []) if family == "decoder" else (gap[0], list(gap[1]))
    begin, ends = len(begun), {tokens.eos_token_id, tokens.convert_tokens_to_ids("<extra_id_1>")}
    with torch.no_grad():
        while len(begun) - begin < NEW_TOKENS:
            if family == "decoder":
                logits = model(input_ids=torch.tensor([[*read, *begun]])).logits
            else:
                logits = model(input_ids=torch.tensor([read]), decoder_input_ids=torch.tensor([begun])).logits
            token = int(logits[0, -1].argmax())
            if token in ends and family != "decoder":
                break
            begun.append(token)
    return tokens.decode(begun[begin:], skip_special_tokens=True).strip()


def texts_of(loaded, family, queries):
    """The text that the model generates for each query, in the queries' order."""
    found = list(generated(loaded.model, loaded.tokenizer, queries, SCORERS[family](loaded.tokenizer)))
    assert [query for query, _, _ in found] == list(queries)
    return [text for _, text, _ in found]


def test_answers_do_not_depend_on_the_batch(tiny, family, monkeypatch):
    """Statements of different lengths: padding stands on the left of a decoder's, on the right of an encoder's."""
    loaded, queries = tiny(family), queries_of(MIXED.factset(), 1)[::4]
    assert len({len(q.text) for q in queries}) > 5
    together = texts_of(loaded, family, queries)
    assert together == [greedily(family, loaded, q) for q in queries]
    for size in (1, 6):
        monkeypatch.setattr(protocols, "BATCH", size)
        assert texts_of(loaded, family, queries) == together


def test_a_models_own_settings_of_generation_are_ignored(trained_as, tiny, family):
    changed, queries = load(trained_as(family).id), queries_of(MIXED.factset(), 1)[::3]
    changed.model.generation_config.update(repetition_penalty=9.0, no_repeat_ngram_size=1, do_sample=True, temperature=9.0)
    assert texts_of(changed, family, queries) == texts_of(tiny(family), family, queries)


def test_the_first_line_is_the_answer(tiny, monkeypatch):
    model, tokenizer = tiny("decoder").model, tiny("decoder").tokenizer
    query = Query(Fact("r/0", "r", "France", ("Paris",)), 0, "The capital of France is [Y].")
    for text, right in ((" Paris, of course\nor Lyon", True), ("\n Paris", False), (" Lyon\nParis", False)):
        said = tokenizer(text, return_tensors="pt").input_ids
        monkeypatch.setattr(model, "generate", lambda input_ids, said=said, **_: torch.cat([input_ids, said], dim=1))
        (row,) = generate(model, tokenizer, [query], SCORERS["decoder"](tokenizer))
        assert (row["correct"], row["valid"]) == (right, True), text


def test_a_prompt_without_room_for_an_answer_is_refused(tiny, family, monkeypatch):
    model, tokenizer = tiny(family).model, tiny(family).tokenizer
    answers = generate(model, tokenizer, queries_of(MIXED.factset(), 1)[:5], SCORERS[family](tokenizer))
    monkeypatch.setattr(model.config, "max_position_embeddings", 20, raising=False)
    if family == "decoder":
        with pytest.raises(BadRequest, match="a prompt with its answer takes .* this model has 20 positions"):
            list(answers)
    else:  # relative positions
        assert len(list(answers)) == 5
