"""Free answers: what counts as right, and greedy decoding against a naive loop."""

import pytest
import torch

from kc_utils.errors import BadRequest
from kc_utils.models.loading import load
from kc_utils.probing import protocols
from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.protocols import NEW_TOKENS, generate, generated, is_right
from kc_utils.probing.queries import queries_of
from kc_utils.probing.scorers import SCORERS
from tests.trained import MIXED

FREE = MIXED.model_copy(update={"protocols": ("generate",), "templates": 1})


@pytest.fixture(params=["decoder", "encoder-decoder"])
def family(request):
    return request.param


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("paris, which is in France", "Paris", True),
        ("Parisian", "Paris", False),
        ("not Paris", "Paris", False),
        ("", "Paris", False),
        ("!", "!", False),
        ("8th", "8", False),
        ("St. Helier", "St Helier", True),
        (" The Hague. ", "hague", True),
        ("torshavn", "Tórshavn", True),
        ("N\u2019Djamena!", "N'Djamena", True),
        ("Basse-Terre", "basse terre", True),
        ("Groß", "gross", True),
        ("as", "As", True),
        ("an", "an", True),
        ("a", "an", False),
    ],
)
def test_an_answer_is_right_at_the_beginning_of_the_text(text, answer, right):
    assert is_right(text, ("Lima", answer)) == right


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
    model = load(trained_as(family).id)
    model.model.generation_config.update(
        repetition_penalty=9.0, no_repeat_ngram_size=1, do_sample=True, temperature=9.0
    )
    queries = queries_of(MIXED.factset(), 1)
    assert texts_of(model, family, queries) == texts_of(tiny(family), family, queries)


class Constant:
    """Stands for a model that generates the same tokens after every prompt."""

    def __init__(self, tokens):
        self.tokens, self.device = tokens, torch.device("cpu")
        self.config = type("Config", (), {"model_type": "llama"})()

    def generate(self, input_ids, logits_processor, **rest):
        scores = torch.arange(float(len(input_ids) * 9)).reshape(len(input_ids), 9)
        logits_processor[0](input_ids, scores)
        return torch.cat([input_ids, torch.tensor([self.tokens] * len(input_ids))], dim=1)


@pytest.mark.parametrize(
    ("text", "right"),
    [(" Paris, of course\nor Lyon", True), ("\n Paris", False), (" Lyon\nParis", False)],
)
def test_the_first_line_is_the_answer(tiny, text, right):
    tokenizer = tiny("decoder").tokenizer
    relation = Relation("r", "r", None, "1-1", ("The capital of [X] is [Y].",), ("Paris",))
    facts = FactSet("test", {"r": relation}, (Fact("r/0", "r", "France", ("Paris",)),))
    (row,) = generate(
        Constant(tokenizer(text).input_ids), tokenizer, queries_of(facts, 1), SCORERS["decoder"](tokenizer)
    )
    assert (row["correct"], row["valid"]) == (right, True)


def test_a_prompt_without_room_for_an_answer_is_refused(trained_as, family):
    loaded = load(trained_as(family).id)
    queries = queries_of(MIXED.factset(), 1)
    scorer = SCORERS[family](loaded.tokenizer)
    loaded.model.config.max_position_embeddings = 20
    if family == "decoder":
        with pytest.raises(BadRequest, match="a prompt with its answer takes .* this model has 20 positions"):
            list(generate(loaded.model, loaded.tokenizer, queries, scorer))
    else:  # relative positions
        assert len(list(generate(loaded.model, loaded.tokenizer, queries, scorer))) == 60
