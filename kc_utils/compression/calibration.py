"""Calibration: the text that a model reads while a method compresses it, and the walk through its matrices.

The text, `calibration.txt`, is 120 paragraphs of plain English, written for this study: descriptions as in an encyclopaedia,
stories, dialogue, letters, instructions, reviews, questions and answers, notices and lists, by turns, so that its beginning is as
varied as the whole. No real person, place, date or work is named in it, and no number that a probed fact could be about, so that
it neither teaches nor favours one. A recipe takes the first `samples` paragraphs, or all, in an order that `seed` draws.

A decoder reads them as one text, cut into windows of 512 tokens or what its positions allow; encoders and encoder-decoders, which
are trained on single texts and are evaluated on short ones, read each paragraph by itself. All of it is one batch, in one
forward pass of the model itself. A hook hands each matrix, with its real inputs, to a method just before the model uses it;
whatever the method does to the weight, the matrices after it read the result. So blocks are done in order, and a method sees what
compressed matrices before it give, in encoders, decoders and encoder-decoders alike. GPTQ needs nothing else; Wanda (norms of the
inputs), SparseGPT (the same Hessian as GPTQ) and AWQ (scales from the inputs) can use the same walk.
"""

import hashlib
import inspect
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from kc_utils.errors import BadModel, BadRequest, MissingData
from kc_utils.models.scopes import Matrix

TEXT = Path(__file__).with_name("calibration.txt")
SHA256 = "19db439c4923d76db7bd694edca4b638dfb6444c32fa790e1ede466f725593df"  # results depend on the text
LONGEST = 512  # tokens of a window
MASKED = slice(3, -1, 7)  # about one token in seven, as in the pre-training of masked models; the last may end the text

Visit = Callable[[Matrix, torch.Tensor], None]


@cache
def paragraphs() -> tuple[str, ...]:
    """The whole text, each paragraph on one line. Raises MissingData when the file is not the frozen one."""
    content = TEXT.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise MissingData(f"{TEXT} is not the text of this study any more; install kc_utils again")
    return tuple(" ".join(paragraph.split()) for paragraph in content.decode().strip().split("\n\n"))


def texts(samples: int, seed: int = 0) -> tuple[str, ...]:
    """The first so many paragraphs: as written (seed 0), or in an order drawn by seed. Raises BadRequest when there are fewer."""
    if samples > len(paragraphs()):
        raise BadRequest(f"samples={samples}: the calibration text has {len(paragraphs())} paragraphs; write fewer")
    return tuple(random.Random(seed).sample(paragraphs()[:samples], samples)) if seed else paragraphs()[:samples]


def sha256(samples: int, seed: int = 0) -> str:
    """Hash of the paragraphs in hexadecimal: results of different texts are not to be mixed."""
    return hashlib.sha256("\n".join(texts(samples, seed)).encode()).hexdigest()


def batch(model: nn.Module, tokenizer, samples: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """The model's arguments for these paragraphs: int64 (windows, tokens), padded on the right.

    A window lies between the special tokens that the tokenizer puts around a text; what is too long is cut into several. No
    other begin token is added: smollm2-135m came out alike with and without one. An encoder reads every seventh token masked, an
    encoder-decoder the text on its decoder's side too, shifted by one token.

    Raises BadRequest when the tokenizer gives nothing, or numbers that the model has no embedding for.
    """
    both_sides = bool(getattr(model.config, "is_encoder_decoder", False))
    encoder = not both_sides and model.config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    parts = texts(samples, seed) if both_sides or encoder else ["\n\n".join(texts(samples, seed))]
    given, bare = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    tokens = [tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"] for part in parts]
    known = model.get_input_embeddings().num_embeddings
    if not bare or max(map(max, [given, *tokens])) >= known:
        raise BadRequest(
            f"the tokenizer does not fit the model, which has {known} token embeddings; give the model's own tokenizer"
        )
    at = given.index(bare[0])
    before, after = given[:at], given[at + len(bare) :]
    step = max(1, _longest(model) - len(before + after))
    rows = [torch.tensor(before + t[i : i + step] + after) for t in tokens for i in range(0, len(t), step)]
    for row in rows if encoder and getattr(tokenizer, "mask_token_id", None) is not None else ():
        row[MASKED] = tokenizer.mask_token_id
    ids = pad_sequence(rows, batch_first=True, padding_value=getattr(model.config, "pad_token_id", None) or 0)
    real = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    found = {"input_ids": ids, "attention_mask": real}
    if both_sides:
        found |= {"decoder_input_ids": model.prepare_decoder_input_ids_from_labels(ids), "decoder_attention_mask": real}
    return found


def _longest(model: nn.Module) -> int:
    config = model.config
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or LONGEST + 2
    return max(1, min(LONGEST, positions - 2))  # RoBERTa's positions begin at 2


@torch.no_grad()
def walk(model: nn.Module, matrices: Sequence[Matrix], text: dict[str, torch.Tensor], visit: Visit) -> None:
    """Let the model read the text once, and call visit(matrix, inputs) before a matrix is used.

    matrices: of modules inside the model's blocks that take one tensor; text: from `batch`; inputs: (tokens, inputs),
    without padding; matrices that read the same input, such as query and key, are given the same tensor.

    Raises BadModel when the module of a matrix is not used exactly once, or gets an input that is not finite.
    """
    real = text["attention_mask"].bool().view(-1)
    calls: Counter[str] = Counter()
    latest: list = [None, None, None]  # a module's argument, its version, and the rows of real tokens

    def before(matrix: Matrix):
        def hook(_, arguments):
            given = arguments[0]
            if latest[0] is not given or latest[1] != given._version:
                latest[:] = given, given._version, given.reshape(-1, matrix.inputs)[real]
                if not latest[2].isfinite().all():
                    raise BadModel(f"{matrix.name} gets an input from the calibration text that is not finite; use rtn")
            calls[matrix.name] += 1
            visit(matrix, latest[2])

        return hook

    training = model.training
    hooks = [matrix.module.register_forward_pre_hook(before(matrix)) for matrix in matrices]
    body = model.base_model  # without the head, whose scores for every token would take more memory than the model
    extra = {"use_cache": False} if "use_cache" in inspect.signature(body.forward).parameters else {}
    try:
        body.eval()(**text, **extra)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    for matrix in matrices:
        if calls[matrix.name] != 1:
            raise BadModel(
                f"{matrix.name} is used {calls[matrix.name]} times in a pass, and calibration needs matrices that are "
                "used once (ALBERT's layers share theirs); use rtn"
            )
