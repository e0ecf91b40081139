"""From a question to what each family of models is read at.

Every family is asked two things of a statement with a gap: which token fills the gap (`gap`), and how likely the
statement is with a certain answer in it (`terms`). What differs is how the model sees it:

    decoder          reads the statement from the left, behind its begin-of-sequence token
    encoder          sees the statement with a mask; the likelihood is pseudo-log-likelihood (Salazar et al. 2020), each
                     token masked together with the rest of its word to its right (Kauf & Ivanova 2023)
    encoder-decoder  reads the statement with a sentinel in the gap and says what the sentinel stands for (Raffel et al.
                     2020)

A likelihood is a sum of terms, each the log-probability of one token at one query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kc_utils.errors import BadModel
from kc_utils.probing.causal import NextToken
from kc_utils.probing.masked import MaskedTokens
from kc_utils.probing.prefix_tree import common_length
from kc_utils.probing.questions import Question
from kc_utils.probing.reading import Query
from kc_utils.probing.seq2seq import GapFiller

Term = tuple[Query, int]


class LeftToRight:
    """A decoder's view. Statements begin with the begin-of-sequence token, or the end-of-sequence one where there is none:
    a statement's own first token is scored after it, as BEAR does."""

    first_token_counts = True  # of a longer answer: a decoder that has said it may go on
    ends: tuple[int, ...] = ()  # tokens that end an answer, beside the model's own end of sequence

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self._start = () if start is None else (start,)

    def reader(self, model, trees: bool | None = None) -> NextToken:
        return NextToken(model, trees=trees)

    def gap(self, question: Question) -> Query:
        """The context that ends where the answer begins."""
        return self._encoded([question.lead.rstrip()])[0]

    def fillers(self, question: Question, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each answer after the gap's context, with the space between them; empty where they cannot be
        told apart from it."""
        context = self.gap(question)
        encoded = self._encoded([question.lead + question.spelled(answer) for answer in answers])
        return [ids[len(context) :] if ids[: len(context)] == context else () for ids in encoded]

    def terms(self, question: Question, answers: Sequence[str]) -> list[list[Term]]:
        """Terms of each whole statement, from where the answers begin: what precedes them is the same for all."""
        context = self.gap(question)
        encoded = self._encoded([question.stated(answer) for answer in answers])
        start = min(common_length(ids, context) for ids in encoded)
        if start == 0:
            raise BadModel(
                f"{question.text!r} opens with its answer, and the tokenizer has neither a begin- nor an end-of-sequence "
                "token to score it after; choose templates that begin otherwise"
            )
        return [[(ids[:at], ids[at]) for at in range(start, len(ids))] for ids in encoded]

    def _encoded(self, texts: list[str]) -> list[tuple[int, ...]]:
        # of what a tokenizer adds by itself, an end would stand between a context and its answer
        return [(*self._start, *ids) for ids in self._tokenizer(texts, add_special_tokens=False).input_ids]


class Masked:
    """An encoder's view."""

    first_token_counts = False  # a mask stands for one whole piece

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        if tokenizer.mask_token_id is None:
            raise BadModel("the tokenizer has no mask token; an encoder is asked through one")
        if not tokenizer.is_fast:
            raise BadModel("pseudo-log-likelihood needs a fast tokenizer, which knows the words that tokens belong to")

    def reader(self, model, trees: bool | None = None) -> MaskedTokens:
        return MaskedTokens(model)

    def gap(self, question: Question) -> Query:
        """The statement with one mask in its gap, and where that is."""
        tokens = _with_gap(self._tokenizer, question, self._tokenizer.mask_token)
        return tokens, len(tokens) - 1 - tokens[::-1].index(self._tokenizer.mask_token_id)

    def fillers(self, question: Question, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each answer where it stands in the statement, with the space before it; empty where they cannot
        be told apart from what stands around them."""
        edge, found = len(question.lead.rstrip()), []
        encoded = self._encoded([question.stated(answer) for answer in answers])
        for answer, (ids, spans, plain, _) in zip(answers, encoded, strict=True):
            start, end = _first_after(edge, spans, plain), len(question.lead) + len(question.spelled(answer))
            inside = [at for at in plain if at >= start and spans[at][0] < end]
            told_apart = bool(inside) and spans[start][0] >= edge and spans[inside[-1]][1] <= end
            found.append(tuple(ids[at] for at in inside) if told_apart else ())
        return found

    def terms(self, question: Question, answers: Sequence[str]) -> list[list[Term]]:
        """Terms of each whole statement, one a token that is not special; none of what is said before it."""
        edge, found = len(question.preamble.rstrip()), []
        for ids, spans, plain, words in self._encoded([question.stated(answer) for answer in answers]):
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
        """Of each text: its tokens, their places in the text, which of them are not special, the words they are of."""
        encoded = self._tokenizer(texts, return_offsets_mapping=True, return_special_tokens_mask=True)
        for row, special in enumerate(encoded.special_tokens_mask):
            plain = [at for at, is_special in enumerate(special) if not is_special]
            yield encoded.input_ids[row], encoded.offset_mapping[row], plain, encoded.word_ids(row)


class Sentinel:
    """An encoder-decoder's view: T5's, whose sentinels are `<extra_id_0>`, `<extra_id_1>`, ..."""

    first_token_counts = True

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        known = tokenizer.get_vocab()
        if "<extra_id_0>" not in known:
            raise BadModel(
                "the tokenizer has no <extra_id_0>: encoder-decoders are asked through T5's sentinels, which this model lacks"
            )
        if tokenizer.pad_token_id is None:
            raise BadModel("the tokenizer has no padding token, with which the decoder of a T5 begins")
        self._said = (tokenizer.pad_token_id, known["<extra_id_0>"])
        ends = (known.get("<extra_id_1>"), tokenizer.eos_token_id)
        self.ends = tuple(token for token in ends if token is not None)
        if not self.ends:
            raise BadModel("the tokenizer has neither <extra_id_1> nor an end-of-sequence token to end an answer with")

    def reader(self, model, trees: bool | None = None) -> GapFiller:
        return GapFiller(model)

    def gap(self, question: Question) -> Query:
        return _with_gap(self._tokenizer, question, "<extra_id_0>"), self._said

    def fillers(self, question: Question, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each answer by itself."""
        spelled = [question.spelled(answer) for answer in answers]
        return [tuple(ids) for ids in self._tokenizer(spelled, add_special_tokens=False).input_ids]

    def terms(self, question: Question, answers: Sequence[str]) -> list[list[Term]]:
        """Terms of each answer after the sentinel, and of the sentinel that ends it."""
        statement, said = self.gap(question)
        wholes = [(*ids, self.ends[0]) for ids in self.fillers(question, answers)]
        return [[((statement, said + whole[:at]), token) for at, token in enumerate(whole)] for whole in wholes]


Wording = LeftToRight | Masked | Sentinel
WORDINGS: dict[str, type] = {"decoder": LeftToRight, "encoder": Masked, "encoder-decoder": Sentinel}


def _with_gap(tokenizer, question: Question, filler: str) -> tuple[int, ...]:
    """The tokens of the statement with a special token in its gap, as an answer would stand there: a space before the
    gap is part of the answer, and where no space is behind it, none is put there (some tokenizers begin anew)."""
    tokens = tokenizer(question.filled(filler)).input_ids
    at = len(tokens) - 1 - tokens[::-1].index(tokenizer.convert_tokens_to_ids(filler))
    before, after = tokens[max(at - 1, 0) : at], tokens[at + 1 : at + 2]
    if after and not tokenizer.decode(after).strip() and not question.text.split("[Y]")[1][:1].isspace():
        del tokens[at + 1]
    if before and not tokenizer.decode(before).strip():
        del tokens[at - 1]
    return tuple(tokens)


def _first_after(edge: int, spans: list[tuple[int, int]], plain: list[int]) -> int:
    """Index of the token behind the last one that ends at or before a place in the text. A token of no width (a space of
    its own, in some tokenizers) belongs to what follows it."""
    before = [at for at in plain if spans[at][0] < spans[at][1] <= edge]
    return before[-1] + 1 if before else plain[0]
