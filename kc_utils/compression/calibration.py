"""Calibration: the text that a model reads while a method compresses it, and the walk through its matrices.

The text, `calibration.txt`, is forty paragraphs of everyday English, written for this study. No person, date, work or
quantity is named in it, so that it neither teaches nor favours a probed fact. A recipe takes the first paragraphs.

All paragraphs are read as one batch, in one forward pass of the model itself. A hook hands each matrix, with its real
inputs, to a method just before the model uses it; whatever the method does to the weight, the matrices after it read
the result. So blocks are done in order, and a method sees what compressed matrices before it give, in encoders,
decoders and encoder-decoders alike. GPTQ needs nothing else; Wanda (norms of the inputs), SparseGPT (the same Hessian
as GPTQ) and AWQ (scales from the inputs) can use the same walk.
"""

import hashlib
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import nn

from kc_utils.errors import BadModel, BadRequest, MissingData
from kc_utils.models.scopes import Matrix

TEXT = Path(__file__).with_name("calibration.txt")
SHA256 = "4c8ce093020356b88ab1f97032ae800f1135f4a9eda6b65f03d343de5727e1e8"  # results depend on the text
LONGEST = 512  # tokens of a paragraph that are read
MASKED = slice(3, -1, 7)  # about one token in seven, as in the pre-training of masked models; the last may end the text

Visit = Callable[[Matrix, torch.Tensor], None]


@cache
def paragraphs() -> tuple[str, ...]:
    """The whole text, each paragraph on one line. Raises MissingData when the file is not the frozen one."""
    content = TEXT.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise MissingData(f"{TEXT} is not the text of this study any more; install kc_utils again")
    return tuple(" ".join(paragraph.split()) for paragraph in content.decode().strip().split("\n\n"))


def texts(samples: int) -> tuple[str, ...]:
    """The first so many paragraphs. Raises BadRequest when there are fewer."""
    if samples > len(paragraphs()):
        raise BadRequest(f"samples={samples}: the calibration text has {len(paragraphs())} paragraphs; write fewer")
    return paragraphs()[:samples]


def sha256(samples: int) -> str:
    """Hash of the paragraphs in hexadecimal: results of different texts are not to be mixed."""
    return hashlib.sha256("\n".join(texts(samples)).encode()).hexdigest()


def batch(model: nn.Module, tokenizer, samples: int) -> dict[str, torch.Tensor]:
    """The model's arguments for these paragraphs: int64 (samples, tokens), padded on the right.

    Paragraphs are cut where the model's positions end. A model that predicts masked tokens gets every seventh token
    masked. A decoder gets each paragraph behind its begin-of-sequence token, as in evaluation: that token draws much
    attention, and a model rounded without having seen it is another one behind it. An encoder-decoder reads the text on
    its decoder's side too, shifted by one token. Raises BadRequest when the tokenizer gives nothing, or numbers that
    the model has no embedding for.
    """
    both_sides = bool(getattr(model.config, "is_encoder_decoder", False))
    longest = _longest(model)
    tokens = [tokenizer(text, truncation=True, max_length=longest)["input_ids"] for text in texts(samples)]
    known = model.get_input_embeddings().num_embeddings
    if not all(tokens) or max(max(t) for t in tokens) >= known:
        raise BadRequest(
            f"the tokenizer does not fit the model, which has {known} token embeddings; give the model's own tokenizer"
        )
    start, mask = getattr(tokenizer, "bos_token_id", None), getattr(tokenizer, "mask_token_id", None)
    if start is not None and mask is None and not both_sides:
        tokens = [t if t[:1] == [start] else [start, *t][:longest] for t in tokens]
    width = max(map(len, tokens))
    ids = torch.full((len(tokens), width), getattr(model.config, "pad_token_id", None) or 0)
    real = torch.zeros_like(ids)
    for row, numbers in enumerate(tokens):
        ids[row, : len(numbers)] = torch.tensor(numbers)
        if mask is not None and not both_sides:
            ids[row, : len(numbers)][MASKED] = mask
        real[row, : len(numbers)] = 1
    found = {"input_ids": ids, "attention_mask": real}
    if both_sides:
        found |= {"decoder_input_ids": model.prepare_decoder_input_ids_from_labels(ids), "decoder_attention_mask": real}
    return found


def _longest(model: nn.Module) -> int:
    config = model.config
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or LONGEST
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
