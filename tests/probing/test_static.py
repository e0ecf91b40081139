"""Word embeddings alone: against plain loops and scikit-learn, and on embeddings whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

import kc_utils as kc
from kc_utils.probing.evaluate import evaluate
from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.probe import Probe
from kc_utils.probing.queries import statements
from kc_utils.probing.static import VARIANTS, alone, static, strongest, unit_vectors
from kc_utils.stats.intervals import wilson

EMBEDDINGS = ("embed_tokens.weight", "word_embeddings.weight", "shared.weight")
SETS = Probe(relations=("capital",), limit=60, alternatives=3, candidates="sets", protocols=("rank",), templates=2)


def by_loops(lm, probe):
    """(variant, fact, template) -> the scores of all candidates, with numpy and scikit-learn, text by text."""
    table = lm.model.state_dict()[next(k for k in lm.model.state_dict() if k.endswith(EMBEDDINGS))].numpy().astype(float)
    facts = probe.factset().in_sets(probe.alternatives + 1, probe.seed)

    def mean(text, table):
        return np.mean([table[i] for i in lm.tokenizer.encode(" " + text, add_special_tokens=False)
                        if lm.tokenizer.decode([i]).strip()], axis=0)  # fmt: skip

    found = {}
    for variant in VARIANTS:
        used = table - table.mean(axis=0) if variant.startswith("centred") else table
        for fact in facts.facts:
            others = [other.answers[0] for other in facts.sets.get(fact.id, ())]
            for template, text in enumerate(statements(facts, fact)[: probe.templates] if others else ()):
                asked = mean(fact.subject if variant.endswith("subject") else text.replace("[Y]", ""), used)
                answers = np.stack([mean(answer, used) for answer in (fact.answers[0], *others)])
                found[variant, fact.id, template] = cosine_similarity(asked[None], answers)[0]
    return found


def test_every_score_is_that_of_plain_loops(tiny, family):
    lm = tiny(family)
    rows, expected = static(lm, SETS), by_loops(lm, SETS)
    assert len(rows) == len(expected) == 4 * rows["fact"].nunique() * 2
    for row in rows.itertuples():
        scores = expected[row.variant, row.fact, row.template]
        assert row.scores == pytest.approx(scores, abs=1e-6)
        assert row.correct == (scores[0] > scores[1:].max()) and row.chance == 1 / len(scores)
        assert row.margin == pytest.approx(scores[0] - scores[1:].max(), abs=1e-6)


def test_the_control_has_the_queries_candidates_and_columns_of_rank(tiny, family):
    lm = tiny(family)
    ranked = evaluate(lm.model, lm.tokenizer, family, SETS).rows.set_index(["fact", "template"])
    control = strongest(static(lm, SETS)).set_index(["fact", "template"])
    assert set(ranked.columns) | {"variant"} == set(control.columns) and set(control["protocol"]) == {"static"}
    assert sorted(ranked.index) == sorted(control.index)
    both = ranked.join(control, rsuffix="_static")
    assert (both["chance"] == both["chance_static"]).all()
    assert (both["scores"].map(len) == both["scores_static"].map(len)).all()


@pytest.mark.parametrize("recipe", ["magnitude@all=0.5", "rtn@all=2", "magnitude@head=0.5", "int8@head"])
def test_no_recipe_takes_what_the_control_reads(tiny, family, recipe):
    """Nor does a final layer that is the embedding."""
    lm = tiny(family)
    before, after = (x.model.get_input_embeddings().weight for x in (lm, kc.compress(lm, recipe)))
    assert torch.equal(before, after)
    assert not kc.scopes(lm).set_index("scope").loc["embedding", "selectable"]


class Words:
    """A tokenizer whose tokens are the words `w0`, `w1`, ..."""

    def __call__(self, texts, add_special_tokens):
        return SimpleNamespace(input_ids=[[int(w[1:]) for w in text.split() if w[1:].isdigit()] for text in texts])

    def decode(self, tokens):
        return f"w{tokens[0]}"


def of_embeddings(weight):
    embedding = torch.nn.Embedding.from_pretrained(weight)
    return SimpleNamespace(model=SimpleNamespace(get_input_embeddings=lambda: embedding), tokenizer=Words())


def probe_of(monkeypatch, pairs, size):
    """A probe in sets whose facts are these pairs of subject and answer; `w1 w2` is a text of two tokens."""
    relation = Relation("r", "r", None, "N-1", ("[X] is [Y].",), tuple(sorted({answer for _, answer in pairs})))
    facts = tuple(Fact(f"f{number}", "r", subject, (answer,)) for number, (subject, answer) in enumerate(pairs))
    monkeypatch.setattr(Probe, "factset", lambda self: FactSet("test", {"r": relation}, facts))
    return Probe(alternatives=size - 1, candidates="sets", protocols=("rank",))


def shares(rows):
    return rows.groupby("variant")["correct"].mean()


def test_random_embeddings_are_right_by_chance_and_aligned_ones_always(monkeypatch):
    drawn = torch.randn(1240, 64, generator=torch.Generator().manual_seed(0)) + 1.0  # a direction that all share
    probe = probe_of(monkeypatch, [(f"w{n}", f"w{1200 + n % 40}") for n in range(1200)], 4)
    rows = static(of_embeddings(drawn), probe)
    assert set(rows["chance"]) == {1 / 4}
    for variant, part in rows.groupby("variant"):
        low, high = wilson(part["correct"].sum(), len(part), alpha=0.001)
        assert low < 1 / 4 < high, variant
    drawn[:1200] = 2 * drawn[1200:].repeat(30, 1)  # every subject points where its answer does
    assert shares(static(of_embeddings(drawn), probe))["raw subject"] == 1


def test_the_mean_of_the_vocabulary_can_hide_an_answer(monkeypatch):
    drawn = torch.randn(240, 64, generator=torch.Generator().manual_seed(1))
    drawn[:200] = 0.2 * drawn[200:].repeat(5, 1)
    drawn[:200, 0] += 9.0  # subjects share a direction, on which answers differ by chance
    rows = static(of_embeddings(drawn), probe_of(monkeypatch, [(f"w{n}", f"w{200 + n % 40}") for n in range(200)], 4))
    assert shares(rows)["centred subject"] > shares(rows)["raw subject"] + 0.1
    assert strongest(rows)["correct"].mean() == shares(rows).max() and strongest(rows)["variant"].nunique() == 1


def test_answers_of_several_tokens_are_means_and_ties_are_wrong(monkeypatch):
    drawn = torch.randn(6, 16, generator=torch.Generator().manual_seed(2))
    lm = of_embeddings(drawn)
    mean = drawn[[1, 2, 5]].double().mean(0)
    assert torch.allclose(unit_vectors(lm, ["w5 w2 w1", ""], False), torch.stack([mean / mean.norm(), 0 * mean]))
    tied = static(lm, probe_of(monkeypatch, [("w3", "w5 w2 w1"), ("w4", "w1 w2 w5")], 2))
    assert len(tied) == 8 and not tied["correct"].any() and set(tied["chosen"]) == {-1} and set(tied["chance"]) == {0.5}
    nothing = static(lm, probe_of(monkeypatch, [("w3", "x"), ("w4", "y")], 2))
    assert not nothing["correct"].any()


def test_the_control_stands_beside_rows_in_tables_sentences_and_figures(tiny):
    lm = tiny("decoder")
    rows = kc.evaluate(lm.entry.id, "rtn@all=2", relations=["capital"], limit=60, alternatives=3, candidates="sets")
    rows["static"] = alone(lm, rows)
    table = kc.compare(rows)
    probe = Probe(relations=("capital",), limit=60, alternatives=3, candidates="sets")
    right = strongest(static(lm, probe)).set_index("fact")["correct"]
    ranked = rows[rows["protocol"] == "rank"]
    assert (ranked["static"] == ranked["fact"].map(right)).all() and rows.drop(ranked.index)["static"].isna().all()
    by_rank = table[table["protocol"] == "rank"].iloc[0]
    assert by_rank["static"] == pytest.approx(right.mean())
    kept = (right.mean() - by_rank["chance"]) / (by_rank["baseline_accuracy"] - by_rank["chance"])
    assert by_rank["static_retention"] == pytest.approx(kept)
    assert table[table["protocol"] == "cloze"]["static"].isna().all()
    written = f"{round(100 * right.mean())}"
    assert f"word embeddings alone choose the right one for {written}" in kc.state(table).data
    assert f"<td>{written}</td>" in kc.show_table(table).data
    for y, level in (("accuracy", right.mean()), ("retention", kept)):
        picture = kc.plot.curve(table, x="precision", y=y)
        levels = [{line.get_label(): line.get_ydata()[0] for line in ax.get_lines()} for ax in picture.figure.axes]
        assert [found.get("word embeddings alone") for found in levels] == [None, pytest.approx(100 * level)]
        assert "Dash-dotted: word embeddings alone, without the body." in picture.caption
    unknown = kc.plot.curve(kc.compare(rows.drop(columns="static")), x="precision")
    assert "Ranking by word embeddings alone: not computed here." in unknown.caption
