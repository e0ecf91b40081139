"""What an encoder says in a masked place: scores over the vocabulary at one position of each masked statement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from kc_utils.probing.reading import Reading, check_length, only_at

MaskedQuery = tuple[tuple[int, ...], int]  # the tokens of a statement with its masks, and the position asked


class MaskedTokens:
    """Reads scores at masked positions off one masked language model.

    batch_tokens  tokens in one forward pass
    read_rows     places whose scores over the vocabulary are held at a time, at most

    Statements of equal length go together, so that nothing is padded; a statement asked at several places is computed
    once; the head runs at the places asked alone. `tokens_computed` counts the tokens that went through the body.
    """

    def __init__(self, model, batch_tokens: int = 2048, read_rows: int = 256):
        self.model = model
        self.batch_tokens = batch_tokens
        self.read_rows = read_rows
        self.tokens_computed = 0
        self._body = model.base_model
        self._heads_only: bool | None = None

    @torch.inference_mode()
    def read(self, queries: Sequence[MaskedQuery]) -> Iterator[Reading]:
        """Yield readings that together cover every query. Raises BadRequest for a statement that is too long."""
        places: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for index, (tokens, position) in enumerate(queries):
            places.setdefault(tokens, []).append((index, position))
        if not places:
            return
        ordered = sorted(places, key=len, reverse=True)
        check_length(self.model, len(ordered[0]), "a statement")
        for batch in self._batches(ordered, places):
            at = [(row, position) for row, tokens in enumerate(batch) for _, position in places[tokens]]
            indices = [index for tokens in batch for index, _ in places[tokens]]
            yield Reading.of(indices, self._scores(batch, at))

    def _batches(self, ordered, places) -> Iterator[list[tuple[int, ...]]]:
        """Statements of one length, no more than fit the limits (one at least)."""
        batch: list[tuple[int, ...]] = []
        asked = 0
        for tokens in ordered:
            full = (len(batch) + 1) * len(tokens) > self.batch_tokens or asked + len(places[tokens]) > self.read_rows
            if batch and (full or len(tokens) != len(batch[0])):
                yield batch
                batch, asked = [], 0
            batch.append(tokens)
            asked += len(places[tokens])
        yield batch

    def _scores(self, batch: list[tuple[int, ...]], at: list[tuple[int, int]]) -> torch.Tensor:
        """Logits [n, vocabulary] at (row, position) pairs."""
        tokens = torch.tensor(batch, device=self.model.device)
        rows, positions = (list(x) for x in zip(*at, strict=True))
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        self.tokens_computed += tokens.numel()
        if self._heads_only is None:
            whole = self.model(**inputs).logits[rows, positions]
            self._heads_only = self._agrees(inputs, rows, positions, whole)
            return whole
        if not self._heads_only:
            return self.model(**inputs).logits[rows, positions]
        return self._at(inputs, rows, positions)

    def _at(self, inputs, rows, positions) -> torch.Tensor:
        with only_at(self._body, lambda states: states[rows, positions].unsqueeze(1)):
            return self.model(**inputs).logits.squeeze(1)

    def _agrees(self, inputs, rows, positions, whole: torch.Tensor) -> bool:
        """Whether the head, run at the places asked alone, scores them as the plain forward pass does."""
        try:
            part = self._at(inputs, rows, positions)
        except (TypeError, RuntimeError, ValueError, IndexError, KeyError):
            return False
        if part.shape != whole.shape:
            return False
        return bool(torch.isclose(part, whole, rtol=1e-3, atol=1e-3, equal_nan=True).all())
