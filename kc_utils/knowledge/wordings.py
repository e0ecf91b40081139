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

from collections.abc import Sequence

from kc_utils.errors import BadModel
from kc_utils.knowledge.causal import NextToken
from kc_utils.knowledge.masked import MaskedTokens
from kc_utils.knowledge.prefix_tree import common_length
from kc_utils.knowledge.questions import Question
from kc_utils.knowledge.reading import Query
from kc_utils.knowledge.seq2seq import GapFiller

Term = tuple[Query, int]


class LeftToRight:
    """A decoder's view. Statements begin with the begin-of-sequence token, or the end-of-sequence one where there is none:
    a statement's own first token is scored after it, as BEAR does."""

    first_token_counts = True  # of a longer answer: a decoder that has said it may go on

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self._start = () if start is None else (start,)

    def reader(self, model, trees: bool | None = None) -> NextToken:
        return NextToken(model, trees=trees)

    def gap(self, question: Question) -> Query:
        """The context that ends where the answer begins."""
        return self._encoded([_joined(question.before, _up_to_gap(question.text))])[0]

    def fillers(self, question: Question, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each answer after the gap's context, with the space between them; empty where they cannot be
        told apart from it."""
        context = self.gap(question)
        text = _joined(question.before, _up_to_gap(question.text))
        encoded = self._encoded([f"{text} {answer}" for answer in answers])
        return [ids[len(context) :] if ids[: len(context)] == context else () for ids in encoded]

    def terms(self, question: Question, answers: Sequence[str]) -> list[list[Term]]:
        """Terms of each whole statement, from where the answers begin: what precedes them is the same for all."""
        context = self.gap(question)
        encoded = self._encoded([_joined(question.before, question.stated(answer)) for answer in answers])
        start = min(common_length(ids, context) for ids in encoded)
        if start == 0:
            raise BadModel(
                f"{question.text!r} opens with its answer, and the tokenizer has neither a begin- nor an end-of-sequence "
                "token to score it after; choose templates that begin otherwise"
            )
        return [[(ids[:at], ids[at]) for at in range(start, len(ids))] for ids in encoded]

    def _encoded(self, texts: list[str]) -> list[tuple[int, ...]]:
        encoded = self._tokenizer(texts).input_ids
        return [tuple(ids) if tuple(ids[:1]) == self._start else (*self._start, *ids) for ids in encoded]


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
        text = _joined(question.before, question.text.replace("[Y]", self._tokenizer.mask_token))
        tokens = tuple(self._tokenizer(text).input_ids)
        return tokens, len(tokens) - 1 - tokens[::-1].index(self._tokenizer.mask_token_id)

    def fillers(self, question: Question, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each answer where it stands in the statement."""
        statements = [_joined(question.before, question.stated(answer)) for answer in answers]
        encoded = self._tokenizer(statements, return_offsets_mapping=True)
        head, _, tail = _joined(question.before, question.text).rpartition("[Y]")
        found = []
        for text, ids, spans in zip(statements, encoded.input_ids, encoded.offset_mapping, strict=True):
            begin, end = len(head), len(text) - len(tail)
            found.append(tuple(i for i, (a, b) in zip(ids, spans, strict=True) if b > a and b > begin and a < end))
        return found

    def terms(self, question: Question, answers: Sequence[str]) -> list[list[Term]]:
        """Terms of each whole statement, one a token that is not special."""
        encoded = self._tokenizer(
            [_joined(question.before, question.stated(answer)) for answer in answers], return_special_tokens_mask=True
        )
        return [
            self._pseudo(ids, special, encoded.word_ids(row))
            for row, (ids, special) in enumerate(zip(encoded.input_ids, encoded.special_tokens_mask, strict=True))
        ]

    def _pseudo(self, ids: list[int], special: list[int], words: list[int | None]) -> list[Term]:
        mask, found = self._tokenizer.mask_token_id, []
        plain = [at for at in range(len(ids)) if not special[at]]
        for number, at in enumerate(plain):
            masked = list(ids)
            masked[at] = mask
            for later in plain[number + 1 :]:
                if words[at] is None or words[later] != words[at]:
                    break
                masked[later] = mask
            found.append(((tuple(masked), at), ids[at]))
        return found


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
        self._sentinel = known["<extra_id_0>"]
        self._end = known.get("<extra_id_1>", tokenizer.eos_token_id)

    def reader(self, model, trees: bool | None = None) -> GapFiller:
        return GapFiller(model)

    def gap(self, question: Question) -> Query:
        text = _joined(question.before, question.text.replace("[Y]", "<extra_id_0>"))
        return tuple(self._tokenizer(text).input_ids), (self._tokenizer.pad_token_id, self._sentinel)

    def fillers(self, question: Question, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each answer by itself."""
        return [tuple(ids) for ids in self._tokenizer(list(answers), add_special_tokens=False).input_ids]

    def terms(self, question: Question, answers: Sequence[str]) -> list[list[Term]]:
        """Terms of each answer after the sentinel, and of the sentinel that ends it."""
        statement, said = self.gap(question)
        found = []
        for ids in self.fillers(question, answers):
            whole = (*ids, self._end)
            found.append([((statement, said + whole[:at]), token) for at, token in enumerate(whole)])
        return found


Wording = LeftToRight | Masked | Sentinel
WORDINGS: dict[str, type] = {"decoder": LeftToRight, "encoder": Masked, "encoder-decoder": Sentinel}


def _up_to_gap(text: str) -> str:
    return text[: text.index("[Y]")].rstrip()


def _joined(before: str, text: str) -> str:
    return before + ("" if before[-1:].isspace() or not before else " ") + text
