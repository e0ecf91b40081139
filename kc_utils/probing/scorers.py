"""From a query to the model inputs that score it, one scorer per family.

Every scorer answers two questions about a statement with a gap: which token fills the gap (`gap`), and how likely the
statement is with a certain answer in it (`terms`). The families differ in what the model sees:

    CausalScorer   decoder: the statement from the left, behind the begin-of-sequence token
    MaskedScorer   encoder: the statement with a mask; its likelihood is pseudo-log-likelihood (Salazar et al. 2020), each
                   token masked together with the rest of its word to its right (Kauf & Ivanova 2023)
    Seq2SeqScorer  encoder-decoder: the statement with a sentinel in the gap; the decoder completes the sentinel
                   (Raffel et al. 2020)

A likelihood is a sum of terms, each the log-probability of one token given one input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kc_utils.errors import BadModel
from kc_utils.probing.causal import NextToken
from kc_utils.probing.logits import GapFiller, Input, MaskedTokens
from kc_utils.probing.prefix_tree import common_length
from kc_utils.probing.queries import Query

Term = tuple[Input, int]


class CausalScorer:
    """Inputs of a decoder. Statements begin with the begin-of-sequence token, or the end-of-sequence one where there is none:
    a statement's own first token is scored after it, as in BEAR."""

    first_token_counts = True  # of a longer answer: the decoder may complete it
    ends: tuple[int, ...] = ()  # tokens that end an answer, beside the model's own end of sequence

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self._start = () if start is None else (start,)

    def predictor(self, model, trees: bool | None = None) -> NextToken:
        return NextToken(model, trees=trees)

    def gap(self, query: Query) -> Input:
        """The context that ends where the answer begins."""
        return self._encoded([query.lead.rstrip()])[0]

    def fillers(self, query: Query, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each answer after the gap's context, with the space between them; empty where an
        answer shares a token with its context."""
        context = self.gap(query)
        encoded = self._encoded([query.lead + query.spelled(answer) for answer in answers])
        return [ids[len(context) :] if ids[: len(context)] == context else () for ids in encoded]

    def terms(self, query: Query, answers: Sequence[str]) -> list[list[Term]]:
        """Terms of each whole statement, from the first answer token on: the text before it is the same for all."""
        context = self.gap(query)
        encoded = self._encoded([query.stated(answer) for answer in answers])
        start = min(common_length(ids, context) for ids in encoded)
        if start == 0:
            raise BadModel(
                f"{query.text!r} opens with its answer, and the tokenizer has neither a begin- nor an end-of-sequence "
                "token to score it after; choose templates that begin otherwise"
            )
        return [[(ids[:at], ids[at]) for at in range(start, len(ids))] for ids in encoded]

    def _encoded(self, texts: list[str]) -> list[tuple[int, ...]]:
        # an end-of-sequence token that a tokenizer adds by itself would part a context from its answer
        return [(*self._start, *ids) for ids in self._tokenizer(texts, add_special_tokens=False).input_ids]


class MaskedScorer:
    """Inputs of an encoder."""

    first_token_counts = False  # a mask stands for one whole piece

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        if tokenizer.mask_token_id is None:
            raise BadModel("the tokenizer has no mask token; an encoder is queried through one")
        if not tokenizer.is_fast:
            raise BadModel("pseudo-log-likelihood needs a fast tokenizer, which knows the words that tokens belong to")

    def predictor(self, model, trees: bool | None = None) -> MaskedTokens:
        return MaskedTokens(model)

    def gap(self, query: Query) -> Input:
        """The statement with one mask in its gap, and the index of the mask."""
        tokens = _with_gap(self._tokenizer, query, self._tokenizer.mask_token)
        return tokens, len(tokens) - 1 - tokens[::-1].index(self._tokenizer.mask_token_id)

    def fillers(self, query: Query, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each answer in its statement, with the space before it; empty where the answer shares a token
        with the text around it."""
        edge, found = len(query.lead.rstrip()), []
        encoded = self._encoded([query.stated(answer) for answer in answers])
        for answer, (ids, spans, plain, _) in zip(answers, encoded, strict=True):
            start, end = _first_after(edge, spans, plain), len(query.lead) + len(query.spelled(answer))
            inside = [at for at in plain if at >= start and spans[at][0] < end]
            apart = bool(inside) and spans[start][0] >= edge and spans[inside[-1]][1] <= end
            found.append(tuple(ids[at] for at in inside) if apart else ())
        return found

    def terms(self, query: Query, answers: Sequence[str]) -> list[list[Term]]:
        """Terms of each whole statement, one a token that is not special; none of the sentences before it."""
        edge, found = len(query.preamble.rstrip()), []
        for ids, spans, plain, words in self._encoded([query.stated(answer) for answer in answers]):
            start = _first_after(edge, spans, plain)
            found.append(self._pseudo(ids, [at for at in plain if at >= start], words))
        return found

    def _pseudo(self, ids: list[int], scored: list[int], words: list[int | None]) -> list[Term]:
        mask, found = self._tokenizer.mask_token_id, []
        for number, at in enumerate(scored):
            masked = list(ids)
            masked[at] = mask
            for later in scored[number + 1 :]:
                if words[at] is None or words[later] != words[at]:
                    break
                masked[later] = mask
            found.append(((tuple(masked), at), ids[at]))
        return found

    def _encoded(self, texts: list[str]) -> Iterator[tuple[list[int], list, list[int], list[int | None]]]:
        """Of each text: its tokens, their spans in it, the indices of those that are not special, their words."""
        encoded = self._tokenizer(texts, return_offsets_mapping=True, return_special_tokens_mask=True)
        for row, special in enumerate(encoded.special_tokens_mask):
            plain = [at for at, is_special in enumerate(special) if not is_special]
            yield encoded.input_ids[row], encoded.offset_mapping[row], plain, encoded.word_ids(row)


class Seq2SeqScorer:
    """Inputs of an encoder-decoder of T5's kind, whose sentinels are `<extra_id_0>`, `<extra_id_1>`, ..."""

    first_token_counts = True

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        known = tokenizer.get_vocab()
        if "<extra_id_0>" not in known:
            raise BadModel("the tokenizer has no <extra_id_0>: encoder-decoders are queried through T5's sentinels")
        if tokenizer.pad_token_id is None:
            raise BadModel("the tokenizer has no padding token, with which the decoder of a T5 begins")
        self._begun = (tokenizer.pad_token_id, known["<extra_id_0>"])
        ends = (known.get("<extra_id_1>"), tokenizer.eos_token_id)
        self.ends = tuple(token for token in ends if token is not None)
        if not self.ends:
            raise BadModel("the tokenizer has neither <extra_id_1> nor an end-of-sequence token to end an answer with")

    def predictor(self, model, trees: bool | None = None) -> GapFiller:
        return GapFiller(model)

    def gap(self, query: Query) -> Input:
        """The statement with the first sentinel in its gap, and the decoder's beginning up to that sentinel."""
        return _with_gap(self._tokenizer, query, "<extra_id_0>"), self._begun

    def fillers(self, query: Query, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each answer by itself."""
        spelled = [query.spelled(answer) for answer in answers]
        return [tuple(ids) for ids in self._tokenizer(spelled, add_special_tokens=False).input_ids]

    def terms(self, query: Query, answers: Sequence[str]) -> list[list[Term]]:
        """Terms of each answer after the sentinel, and of the sentinel that ends it."""
        statement, begun = self.gap(query)
        wholes = [(*ids, self.ends[0]) for ids in self.fillers(query, answers)]
        return [[((statement, begun + whole[:at]), token) for at, token in enumerate(whole)] for whole in wholes]


Scorer = CausalScorer | MaskedScorer | Seq2SeqScorer
SCORERS: dict[str, type] = {"decoder": CausalScorer, "encoder": MaskedScorer, "encoder-decoder": Seq2SeqScorer}


def _with_gap(tokenizer, query: Query, filler: str) -> tuple[int, ...]:
    """The tokens of the statement with a special token in the position of the answer. A space before the gap is part of the
    answer; where no space follows the gap, none is added (some tokenizers begin anew)."""
    tokens = tokenizer(query.filled(filler)).input_ids
    at = len(tokens) - 1 - tokens[::-1].index(tokenizer.convert_tokens_to_ids(filler))
    before, after = tokens[max(at - 1, 0) : at], tokens[at + 1 : at + 2]
    if after and not tokenizer.decode(after).strip() and not query.text.split("[Y]")[1][:1].isspace():
        del tokens[at + 1]
    if before and not tokenizer.decode(before).strip():
        del tokens[at - 1]
    return tuple(tokens)


def _first_after(edge: int, spans: list[tuple[int, int]], plain: list[int]) -> int:
    """Index of the token after the last one that ends at or before a position in the text. A token of no width (a space of
    its own, in some tokenizers) belongs to the next one."""
    before = [at for at in plain if spans[at][0] < spans[at][1] <= edge]
    return before[-1] + 1 if before else plain[0]
