"""Readers answer lm-eval's requests with a model in memory, each shared beginning computed once.

lm-eval requests the log-likelihood of a continuation after a context. The tokens of the two texts (special tokens, the space
between them, the cut of a context that is too long) are lm-eval's own, from `TemplateLM` and as in its `HFLM`.
`HFLM` itself computes each pair on its own, with scores over the vocabulary at every token, and ties weights when it takes
a model over, which fails for a tied embedding after dynamic int8 and would undo an untied head.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix, resolve_max_length
from tqdm import tqdm

from kc_utils.errors import BadRequest
from kc_utils.probing.causal import NextToken
from kc_utils.probing.logits import GapFiller, Input

Pair = tuple[tuple[str, str], list[int], list[int]]
"""Texts of context and continuation, tokens of both."""
Answer = tuple[float, bool]
"""Log-likelihood in nats, NaN where the logits are not valid; whether each token is the likeliest."""


class Reader(TemplateLM):
    """What both families share: from text to tokens as in `HFLM`, and from tokens to log-likelihoods.

    A subclass sets `predictor`, and names the inputs of a request by `_terms`.
    """

    predictor: NextToken | GapFiller

    def __init__(self, model, tokenizer):
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self._encoded = lru_cache(maxsize=4096)(self._encode)

    @property
    def eot_token_id(self) -> int | None:
        return self.tokenizer.eos_token_id

    @property
    def _first_token_id(self) -> int | None:
        first = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else first

    @property
    def prefix_token_id(self) -> int:
        """Stands before a continuation without context."""
        if self._first_token_id is None:
            raise BadRequest("this task has requests without context, and the tokenizer has no token to begin with")
        return self._first_token_id

    @property
    def max_length(self) -> int:
        return resolve_max_length(self.model.config, self.tokenizer)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_) -> list[int]:
        return list(self._encoded(string, add_special_tokens))

    def _encode(self, string: str, add_special_tokens: bool | None) -> list[int]:
        if add_special_tokens is None:
            first = self._first_token_id
            if first is None or not has_bos_prefix(string, self.tokenizer.decode(first)):
                return self.tokenizer.encode(string)
            add_special_tokens = False  # the text brings its own
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens)

    def loglikelihood(self, requests, disable_tqdm: bool = False) -> list[Answer]:
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(self, requests: Sequence[Pair], **_) -> list[Answer]:
        limit, cut = self.max_length, 0
        wanted: dict[Input, list[tuple[int, int]]] = {}
        for number, ((_, text), context, continuation) in enumerate(requests):
            if not continuation or len(continuation) > limit:
                raise BadRequest(
                    f"an answer of {len(text)} characters has {len(continuation)} tokens of its own; this model can "
                    f"score 1 to {limit}"
                )
            is_cut, terms = self._terms(context, continuation, limit)
            cut += is_cut
            for one, token in terms:
                wanted.setdefault(one, []).append((number, token))
        if cut:
            warnings.warn(
                f"{cut} of {len(requests)} prompts are longer than the {limit} tokens the model takes and lose their beginning",
                stacklevel=2,
            )
        sums, greedy = [0.0] * len(requests), [True] * len(requests)
        for number, value, likeliest in self._values(wanted):
            sums[number] += value
            greedy[number] &= likeliest
        return list(zip(sums, greedy, strict=True))

    def _terms(self, context: list[int], continuation: list[int], limit: int) -> tuple[bool, Iterator[tuple[Input, int]]]:
        """Whether the context is cut, and the (input, token) pairs whose log-probabilities sum to the request's."""
        raise NotImplementedError

    def _values(self, wanted: dict[Input, list[tuple[int, int]]]) -> Iterator[tuple[int, float, bool]]:
        """(request, log-probability, likeliest) for each (request, token) wanted at an input; NaN where the logits are
        not valid."""
        inputs = list(wanted)
        with tqdm(total=len(inputs), desc="harness", unit="token", leave=False) as bar:
            for logits in self.predictor.logits(inputs):
                pairs = [(row, *pair) for row, index in enumerate(logits.indices) for pair in wanted[inputs[index]]]
                rows, numbers, tokens = (list(x) for x in zip(*pairs, strict=True))
                found, valid = logits.values[rows, tokens], logits.valid[rows]
                values = (found - logits.log_norm[rows]).masked_fill(~valid, math.nan)
                likeliest = valid & (found >= logits.values.amax(dim=-1)[rows])  # five times faster than the arg-max
                yield from zip(numbers, values.tolist(), likeliest.tolist(), strict=True)
                bar.update(len(logits.indices))

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False):
        raise BadRequest("whole texts are scored by `perplexity`, not by a harness task")

    def generate_until(self, requests, disable_tqdm: bool = False):
        raise BadRequest("tasks that have text generated are not evaluated here")


class DecoderReader(Reader):
    """A decoder. Passages, questions and beginnings of answers that requests share are computed once, and the head runs only
    where an answer's token is scored. A NaN that one token gives rise to reaches all that share a tree with it: their items
    fail with it.

    batch_size  rows of a forward pass, each a tree of about `max_nodes` tokens or one longer context
    trees       as in `NextToken`
    """

    backend = "causal"

    def __init__(self, model, tokenizer, batch_size: int = 8, max_nodes: int = 128, trees: bool | None = None):
        super().__init__(model, tokenizer)
        self.predictor = NextToken(model, max_nodes=max_nodes, batch_tokens=batch_size * max_nodes, trees=trees)

    def _terms(self, context, continuation, limit):
        whole = (*context, *continuation)
        kept = whole[-(limit + 1) :]
        return whole != kept, ((kept[:at], kept[at]) for at in range(len(kept) - len(continuation), len(kept)))


class EncoderDecoderReader(Reader):
    """An encoder-decoder: the context goes to the encoder, once for all of its continuations, those to the decoder."""

    backend = "seq2seq"

    def __init__(self, model, tokenizer, batch_size: int = 8):
        super().__init__(model, tokenizer)
        self.predictor = GapFiller(model)

    def _terms(self, context, continuation, limit):
        begun, kept = (self.model.config.decoder_start_token_id, *continuation), tuple(context[-limit:])
        return len(context) > limit, (((kept, begun[:at]), begun[at]) for at in range(1, len(begun)))


READERS: dict[str, type[Reader]] = {"decoder": DecoderReader, "encoder-decoder": EncoderDecoderReader}
