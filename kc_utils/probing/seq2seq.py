"""What an encoder-decoder fills a gap with: next-token scores of the decoder after many beginnings of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers.modeling_outputs import BaseModelOutput

from kc_utils.probing.reading import Reading, check_length, only_at

Tokens = tuple[int, ...]
GapQuery = tuple[Tokens, Tokens]  # what the encoder reads; what the decoder has said so far


class GapFiller:
    """Reads next-token scores off one encoder-decoder.

    A statement goes through the encoder once, whatever is asked of it. Of the decoder's beginnings, one that begins
    another is read on the way through the longer one. Rows of a batch have one length, so that nothing is padded on the
    decoder's side; encoder inputs of one length go together. The head runs at the places asked alone.
    """

    def __init__(self, model, batch_tokens: int = 2048, read_rows: int = 256):
        self.model = model
        self.batch_tokens = batch_tokens
        self.read_rows = read_rows
        self.tokens_computed = 0

    @torch.inference_mode()
    def read(self, queries: Sequence[GapQuery]) -> Iterator[Reading]:
        """Yield readings that together cover every query. Raises BadRequest for a statement that is too long."""
        asked: dict[Tokens, dict[Tokens, list[int]]] = {}
        for index, (statement, said) in enumerate(queries):
            asked.setdefault(statement, {}).setdefault(said, []).append(index)
        if not asked:
            return
        ordered = sorted(asked, key=len, reverse=True)
        check_length(self.model, len(ordered[0]), "a statement")
        start = 0
        while start < len(ordered):
            width = len(ordered[start])
            most = max(1, self.batch_tokens // width)
            batch = [s for s in ordered[start : start + most] if len(s) == width]
            start += len(batch)
            yield from self._decode(batch, asked)

    def _decode(self, statements: list[Tokens], asked) -> Iterator[Reading]:
        inputs = torch.tensor(statements, device=self.model.device)
        states = self.model.get_encoder()(input_ids=inputs, attention_mask=torch.ones_like(inputs))[0]
        self.tokens_computed += inputs.numel()
        chains = [(row, chain) for row, s in enumerate(statements) for chain in _longest(asked[s])]
        chains.sort(key=lambda c: -len(c[1]))
        start, read = 0, set()
        while start < len(chains):
            width = len(chains[start][1])
            most = max(1, min(self.batch_tokens // width, self.read_rows // width))
            part = [c for c in chains[start : start + most] if len(c[1]) == width]
            start += len(part)
            yield from self._scores(part, statements, states, asked, read)

    def _scores(self, chains, statements, states, asked, read: set) -> Iterator[Reading]:
        """One reading of the places along these chains that are asked and not in `read` yet."""
        said = torch.tensor([chain for _, chain in chains], device=self.model.device)
        rows = [row for row, _ in chains]
        indices, at_rows, at_places = [], [], []
        for number, (row, chain) in enumerate(chains):
            for length in range(1, len(chain) + 1):
                query = (row, chain[:length])
                found = asked[statements[row]].get(chain[:length], ())
                if found and query not in read:
                    read.add(query)
                    indices += found
                    at_rows += [number] * len(found)
                    at_places += [length - 1] * len(found)
        self.tokens_computed += said.numel()
        mask = torch.ones(len(rows), states.shape[1], dtype=torch.long, device=self.model.device)
        with only_at(self.model.get_decoder(), lambda out: out[at_rows, at_places].unsqueeze(1)):
            logits = self.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=states[rows]),
                attention_mask=mask,
                decoder_input_ids=said,
                use_cache=False,
            ).logits
        yield Reading.of(indices, logits.squeeze(1))


def _longest(beginnings) -> list[Tokens]:
    """The beginnings that begin no other one."""
    ordered = sorted(beginnings)
    return [a for a, b in zip(ordered, [*ordered[1:], ()], strict=True) if b[: len(a)] != a]
