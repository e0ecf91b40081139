"""The inputs of each family, on tokenizers of every usual kind, against the tokens of the whole statement."""

import itertools

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from kc_utils.errors import BadModel
from kc_utils.probing.facts import Fact
from kc_utils.probing.queries import Query
from kc_utils.probing.scorers import CausalScorer, MaskedScorer, Seq2SeqScorer
from tests.trained import byte_level, corpus, sentinels, word_pieces

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
NAMES = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def with_mask(tokenizer, processor, strip=True, **training):
    """The tokenizer, trained; its mask takes the space before it, or leaves it."""
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL, show_progress=False, **training)
    tokenizer.train_from_iterator([*corpus(), "0 1 2 3 4 5 6 7 8 9"], trainer)
    tokenizer.post_processor = processor
    mask = AddedToken("<mask>", lstrip=strip, special=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token=mask, **NAMES)


def like_roberta(trim=True, strip=True):
    """Byte pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=trim, add_prefix_space=False)
    return with_mask(tokenizer, processor, strip, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def like_albert():
    """Pieces that bring the space before them; digits are pieces of their own, their space too."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    ends = [("<s>", 0), ("</s>", 2)]
    return with_mask(tokenizer, processors.TemplateProcessing("<s> $A </s>", special_tokens=ends))


ENCODERS = {
    "WordPiece, lower case": word_pieces,
    "WordPiece, cased": lambda: word_pieces(lowercase=False),
    "bytes": like_roberta,
    "bytes, offsets with the space": lambda: like_roberta(trim=False),
    "bytes, a space before the mask": lambda: like_roberta(strip=False),
    "Metaspace": like_albert,
}
DECODERS = {"bytes": byte_level, "Metaspace": sentinels}
ANSWERS = ("Paris", "N'Djamena", "St. Helier", "Tórshavn", "the Hague", "Basse-Terre", "8", "U.S.")
TEXTS = (
    "[Y] is the capital of Chile.",
    "In Chile [Y] is the capital.",
    "The capital of Chile is [Y].",
    "Chile's capital, [Y], is old.",
)
BEFORE = ("", "The capital of Peru is Lima.", "The capital of Peru is Lima.\n")
FACT = Fact("f", "r", "Chile", ANSWERS[:1], ANSWERS[1:])
QUERIES = [Query(FACT, 0, text, sentence) for text in TEXTS for sentence in BEFORE]


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_sees_one_mask_and_every_token_of_a_statement_is_scored(name):
    """Fillers found another way: what the text that ends with the answer has more than the text that ends before it."""
    tokens = ENCODERS[name]()
    scorer, mask = MaskedScorer(tokens), tokens.mask_token_id
    plain = lambda text: tokens(text, add_special_tokens=False).input_ids  # noqa: E731
    for query in QUERIES:
        lead, preamble = len(plain(query.lead.rstrip())), len(plain(query.preamble.rstrip()))
        seen, gap = scorer.gap(query)
        assert [at for at, token in enumerate(seen) if token == mask] == [gap]
        found = zip(ANSWERS, scorer.fillers(query, ANSWERS), scorer.terms(query, ANSWERS), strict=True)
        for answer, filler, terms in found:
            ids, words = tokens(query.stated(answer)).input_ids, tokens(query.stated(answer)).word_ids()
            whole = plain(query.lead + query.spelled(answer))
            if ids[1 : len(whole) + 1] == whole:
                assert filler == tuple(whole[lead:]), (query, answer)
                if "\n" not in query.before:  # a mask may take a new line with the space before it
                    assert [*seen[:gap], *filler, *seen[gap + 1 :]] == ids, (query, answer)
            else:
                assert (answer, tokens.decode(ids[-2]), filler) == ("U.S.", "..", ()), "its last token is not its own"
            assert [at for (_, at), _ in terms] == list(range(1 + preamble, len(ids) - 1))
            for (masked, at), token in terms:
                assert ids[at] == token
                hidden = {i for i, (a, b) in enumerate(zip(ids, masked, strict=True)) if a != b}
                assert hidden == {i for i in range(at, len(ids) - 1) if i == at or words[i] == words[at]}
                assert {masked[i] for i in hidden} == {mask}


def test_a_space_of_its_own_is_part_of_an_answer_and_a_shared_token_leaves_it_out():
    """Else "8" would be of one piece, and the mask would stand where its space is."""
    tokens = like_albert()
    (filler,) = MaskedScorer(tokens).fillers(Query(FACT, 0, "The capital is [Y]."), ["8"])
    assert tokens.convert_ids_to_tokens(filler) == ["▁", "8"]
    tokens = like_roberta()
    tokens.add_tokens(["(Paris"])
    assert MaskedScorer(tokens).fillers(Query(FACT, 0, "Chile, ([Y])"), ["Paris"]) == [()]
    assert CausalScorer(tokens).fillers(Query(FACT, 0, "Chile, ([Y]"), ["Paris"]) == [()]


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_reads_up_to_the_gap_and_scores_the_end_of_every_statement_from_one_place_on(name):
    tokens = DECODERS[name]()
    scorer, start = CausalScorer(tokens), tokens.bos_token_id if name == "bytes" else tokens.eos_token_id
    plain = lambda text: tuple(tokens(text, add_special_tokens=False).input_ids)  # noqa: E731
    for query in QUERIES:
        gap, places = scorer.gap(query), set()
        assert gap == (start, *plain(query.lead.rstrip()))
        found = zip(ANSWERS, scorer.fillers(query, ANSWERS), scorer.terms(query, ANSWERS), strict=True)
        for answer, filler, terms in found:
            if query.ends_with_answer:
                assert gap + filler == (start, *plain(query.lead + answer))
                assert tokens.decode(filler).strip() == answer
            assert terms[0][0][1:] + tuple(token for _, token in terms) == plain(query.stated(answer))
            assert all(b[0] == (*a[0], a[1]) for a, b in itertools.pairwise(terms))
            places.add(terms[0][0])
        (shared,) = places  # else the sums would be of different things
        assert " ".join(query.lead.split()).startswith(" ".join(tokens.decode(shared[1:]).split()))
        assert len(shared) >= len(gap) - 1


def test_without_a_token_to_begin_with_a_statement_cannot_open_with_its_answer():
    tokens = byte_level()
    tokens.bos_token = None
    assert CausalScorer(tokens).gap(QUERIES[6]) == tuple(tokens("The capital of Chile is").input_ids)
    with pytest.raises(BadModel, match="opens with its answer"):
        CausalScorer(tokens).terms(QUERIES[0], ANSWERS)


def test_an_encoder_decoder_reads_a_sentinel_and_says_what_it_stands_for():
    tokens = sentinels()
    scorer, (first, second) = Seq2SeqScorer(tokens), tokens.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_1>"])
    for query in QUERIES:
        statement, begun = scorer.gap(query)
        at = statement.index(first)
        (filler,) = scorer.fillers(query, ["Lima"])
        assert (*statement[:at], *filler, *statement[at + 1 :]) == tuple(tokens(query.stated("Lima")).input_ids)
        assert (statement.count(first), statement[-1], begun) == (1, tokens.eos_token_id, (tokens.pad_token_id, first))
        fillers = scorer.fillers(query, ANSWERS)
        for answer, filler, terms in zip(ANSWERS, fillers, scorer.terms(query, ANSWERS), strict=True):
            assert filler == tuple(tokens(query.spelled(answer), add_special_tokens=False).input_ids)
            assert tuple(token for _, token in terms) == (*filler, second)
            assert [query for query, _ in terms] == [(statement, begun + filler[:n]) for n in range(len(filler) + 1)]
    assert scorer.ends == (second, tokens.eos_token_id)


def test_a_tokenizer_without_what_its_family_needs_is_refused():
    unpadded = sentinels()
    unpadded.pad_token = None
    for kind, tokens, what in (
        (MaskedScorer, byte_level(), "no mask token"),
        (Seq2SeqScorer, byte_level(), "no <extra_id_0>"),
        (Seq2SeqScorer, unpadded, "no padding token"),
    ):
        with pytest.raises(BadModel, match=what):
            kind(tokens)
