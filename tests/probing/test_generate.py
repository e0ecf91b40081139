"""Free answers: what counts as right, what goes before, and greedy decoding against a naive loop."""

import pytest
import torch

from kc_utils.errors import BadRequest
from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.probe import ask
from kc_utils.probing.protocols import generate as module
from kc_utils.probing.protocols.generate import NEW_TOKENS, generate, is_right, normalized, with_shots
from kc_utils.probing.questions import ask_about
from kc_utils.probing.sources import load_source
from kc_utils.probing.wordings import WORDINGS
from kc_utils.models.loading import load
from tests.trained import MIXED, PROBE

FREE = MIXED.model_copy(update={"protocols": ("generate",), "templates": 1})


@pytest.fixture(params=["decoder", "encoder-decoder"])
def family(request):
    return request.param


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" The Hague. ", "hague"),
        ("Tórshavn", "torshavn"),
        ("N'Djamena", "n djamena"),
        ("N\u2019Djamena!", "n djamena"),
        ("Basse-Terre", "basse terre"),
        ("A", "a"),
        ("an", "an"),
        ("...", ""),
        ("Groß", "gross"),
    ],
)
def test_what_is_compared(text, expected):
    assert normalized(text) == expected


@pytest.mark.parametrize(
    ("said", "accepted", "right"),
    [
        ("Paris", ("Paris",), True),
        ("paris, which is in France", ("Paris",), True),
        ("Parisian", ("Paris",), False),
        ("not Paris", ("Paris",), False),
        ("", ("Paris",), False),
        ("!", ("Paris", "!"), False),
        ("St. Helier", ("Saint Helier", "St Helier"), True),
        ("The Hague", ("Hague",), True),
        ("as", ("As",), True),
        ("an", ("an",), True),
        ("8th", ("8",), False),
        ("8", ("8",), True),
    ],
)
def test_what_is_right(said, accepted, right):
    assert is_right(said, accepted) == right


def greedily(family, loaded, question):
    """What plain forward passes say, a token at a time, without a batch or a cache."""
    tokens, model = loaded.tokenizer, loaded.model
    gap = WORDINGS[family](tokens).gap(question)
    read, said = (gap, []) if family == "decoder" else (gap[0], list(gap[1]))
    begin, ends = len(said), {tokens.eos_token_id, tokens.convert_tokens_to_ids("<extra_id_1>")}
    with torch.no_grad():
        while len(said) - begin < NEW_TOKENS:
            if family == "decoder":
                logits = model(input_ids=torch.tensor([[*read, *said]])).logits
            else:
                logits = model(input_ids=torch.tensor([read]), decoder_input_ids=torch.tensor([said])).logits
            token = int(logits[0, -1].argmax())
            if token in ends and family != "decoder":
                break
            said.append(token)
    return tokens.decode(said[begin:], skip_special_tokens=True).strip()


def test_answers_are_those_of_a_naive_greedy_loop(tiny, asked, family):
    loaded, rows = tiny(family), asked(family).rows
    rows = rows[rows["protocol"] == "generate"].set_index(["fact", "template"])
    count = 0
    for question in ask_about(PROBE.factset(), "all", left_to_right=family == "decoder")[::6]:
        text = greedily(family, loaded, question)
        row = rows.loc[(question.fact.id, question.template)]
        assert row["correct"] == is_right(text, question.fact.accepted), (question, text)
        assert (row["valid"], row["chance"]) == (True, 0.0)
        count += 1
    assert count >= 15


def said_by(loaded, family, questions):
    """What the model says to each question, in the questions' order."""
    wording, texts = WORDINGS[family](loaded.tokenizer), {}
    remember = lambda text, accepted: texts.setdefault(accepted, text) is None  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "is_right", remember)
        assert len(list(generate(loaded.model, loaded.tokenizer, questions, wording))) == len(questions)
    return [texts[q.fact.accepted] for q in questions]


def test_answers_do_not_depend_on_the_batch(tiny, family, monkeypatch):
    """Statements of different lengths: padding stands on the left of a decoder's, on the right of an encoder's."""
    loaded, questions = tiny(family), ask_about(MIXED.factset(), 1)[::4]
    assert len({len(q.text) for q in questions}) > 5
    together = said_by(loaded, family, questions)
    assert together == [greedily(family, loaded, q) for q in questions]
    for size in (1, 6):
        monkeypatch.setattr(module, "BATCH", size)
        assert said_by(loaded, family, questions) == together


def test_a_models_own_ways_of_generating_are_left_aside(trained_as, tiny, family):
    model = load(trained_as(family).id)
    model.model.generation_config.update(
        repetition_penalty=9.0, no_repeat_ngram_size=1, do_sample=True, temperature=9.0
    )
    questions = ask_about(MIXED.factset(), 1)
    assert said_by(model, family, questions) == said_by(tiny(family), family, questions)


def test_an_encoder_decoder_is_cut_where_it_ends_its_answer(tiny):
    """What it says after the sentinel of the next gap is no part of this answer."""
    loaded = tiny("encoder-decoder")
    for text in said_by(loaded, "encoder-decoder", ask_about(PROBE.factset(), 1)):
        assert "extra_id" not in text
    right = [is_right(t, q.fact.accepted) and normalized(t) in map(normalized, q.fact.accepted)
             for q in ask_about(PROBE.factset(), 1) for t in said_by(loaded, "encoder-decoder", [q])]  # fmt: skip
    assert sum(right) / len(right) > 0.9, "the answer and nothing else"


class Says:
    """Stands for a model that says the same tokens to everybody."""

    def __init__(self, tokens, device="cpu"):
        self.tokens, self.device = tokens, torch.device(device)
        self.config = type("Config", (), {"model_type": "llama"})()

    def generate(self, input_ids, logits_processor, **rest):
        scores = torch.arange(float(len(input_ids) * 9)).reshape(len(input_ids), 9)
        logits_processor[0](input_ids, scores)
        return torch.cat([input_ids, torch.tensor([self.tokens] * len(input_ids))], dim=1)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (" Paris.", True),
        (" Paris, of course", True),
        ("\n Paris", False),
        (" Lyon\nParis", False),
        (" St. Paris", False),
    ],
)
def test_the_first_line_is_the_answer(tiny, said, right):
    tokenizer = tiny("decoder").tokenizer
    relation = Relation("r", "r", None, "1-1", ("The capital of [X] is [Y].",), ("Paris",))
    facts = FactSet("test", {"r": relation}, (Fact("r/0", "r", "France", ("Paris",)),))
    (row,) = generate(Says(tokenizer(said).input_ids), tokenizer, ask_about(facts, 1), WORDINGS["decoder"](tokenizer))
    assert (row["correct"], row["valid"]) == (right, True)


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_model_of_nan_or_of_zeros_says_nothing(trained_as, family, value):
    loaded = load(trained_as(family).id)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.fill_(value)
    with pytest.warns(UserWarning, match="60 of 60 scores are not numbers"):
        rows = ask(loaded.model, loaded.tokenizer, family, FREE).rows
    assert not rows["correct"].any()
    assert not rows["valid"].any()


def test_a_question_without_room_for_an_answer_is_refused(trained_as, family):
    loaded = load(trained_as(family).id)
    questions = ask_about(MIXED.factset(), 1)
    wording = WORDINGS[family](loaded.tokenizer)
    loaded.model.config.max_position_embeddings = 20
    if family == "decoder":
        with pytest.raises(BadRequest, match="a question with its answer takes .* this model has 20 positions"):
            list(generate(loaded.model, loaded.tokenizer, questions, wording))
    else:  # relative positions
        assert len(list(generate(loaded.model, loaded.tokenizer, questions, wording))) == 60


@pytest.mark.parametrize("relation", ["capital", "borders", "official_language", "iso2"])
def test_shots_are_true_statements_that_do_not_tell_the_answer(relation):
    whole = load_source("worldfacts").only([relation])
    facts = whole.sample(60)
    questions = ask_about(facts, "all")
    told = with_shots(questions, facts, 3, seed=0)
    full = 0
    for question, shot in zip(questions, told, strict=True):
        assert (shot.fact, shot.template, shot.text) == (question.fact, question.template, question.text)
        lines = shot.before.split("\n")
        assert lines.pop() == ""
        template = whole.relations[relation].templates[question.template]
        by_text = {template.replace("[X]", f.subject).replace("[Y]", f.answers[0]).casefold(): f for f in facts.facts}
        shown = [by_text[line.casefold()] for line in lines]
        assert len(set(shown)) == len(lines) <= 3
        for fact in shown:
            assert fact.subject != question.fact.subject
            for answer in question.fact.accepted:
                assert answer.casefold() not in {fact.subject.casefold(), *(a.casefold() for a in fact.accepted)}
        full += len(lines) == 3
    assert full / len(questions) > 0.9
    assert [q.before for q in told] == [q.before for q in with_shots(questions, facts, 3, seed=0)]
    assert [q.before for q in told] != [q.before for q in with_shots(questions, facts, 3, seed=1)]
    assert with_shots(questions, facts, 0, seed=0) == questions


def test_a_shot_does_not_name_the_answer_in_passing():
    relation = Relation("r", "r", None, "N-M", ("[X] borders [Y].",), ("b", "c"))
    facts = FactSet(
        "test",
        {"r": relation},
        (
            Fact("r/0", "r", "Spain", ("France",)),
            Fact("r/1", "r", "France", ("Italy",)),
            Fact("r/2", "r", "Southern France", ("Italy",)),
            Fact("r/3", "r", "spain", ("Portugal",)),
            Fact("r/4", "r", "Francesca", ("Peru",)),
        ),
    )
    question = with_shots(ask_about(facts, 1), facts, 5, 0)[0]
    assert question.before == "Francesca borders Peru.\n"


def test_shots_are_seen_by_the_model(tiny, family):
    loaded = tiny(family)
    wording = WORDINGS[family](loaded.tokenizer)
    question = with_shots(ask_about(PROBE.factset(), 1), PROBE.factset(), 2, 0)[0]
    gap = wording.gap(question)
    read = loaded.tokenizer.decode(gap if family == "decoder" else gap[0], skip_special_tokens=True)
    for line in question.before.splitlines():
        assert line in read


def test_encoders_do_not_generate(tiny):
    loaded = tiny("encoder")
    with pytest.raises(BadRequest, match="an encoder does not generate text"):
        ask(loaded.model, loaded.tokenizer, "encoder", FREE)
