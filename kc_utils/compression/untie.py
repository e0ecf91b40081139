"""Give a head that shares its weight with the embedding a weight of its own.

Changing a tied head changes the embedding too, and a change of the head alone is lost when the model is saved and
loaded. transformers ties by `config.tie_word_embeddings` and by a table on the model (`_tied_weights_keys`,
`all_tied_weights_keys`); both have to agree with what is done here, or the next `tie_weights()` undoes it.
"""

from collections.abc import Sequence

from torch import nn

from kc_utils.models.scopes import Matrix


def untie(model: nn.Module, heads: Sequence[Matrix]) -> None:
    """Clone the tied parameters of these heads (weight, and the bias of BERT's decoder), in place.

    Outputs do not change, and a model saved after this loads with both weights. Where the head was all that was tied,
    the config says `tie_word_embeddings=False` from now on. T5 and BART also tie the embeddings of their two stacks, so
    there the config stays: transformers 5 leaves a head untied when the file holds a different weight for it.
    """
    for head in heads:
        if not head.tied:
            continue
        path = head.name.rpartition(".")[0]
        for name, parameter in list(head.module._parameters.items()):
            if parameter is not None:
                setattr(head.module, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
        gone = {key for key in getattr(model, "all_tied_weights_keys", {}) if key.rpartition(".")[0] == path}
        left = {k: v for k, v in getattr(model, "all_tied_weights_keys", {}).items() if k not in gone}
        model.all_tied_weights_keys = left
        if getattr(model, "_tied_weights_keys", None):
            model._tied_weights_keys = {k: v for k, v in model._tied_weights_keys.items() if k not in gone}
        if not left and hasattr(model, "config"):
            model.config.tie_word_embeddings = False
