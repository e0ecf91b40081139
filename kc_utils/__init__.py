"""The Cost of Compression: what pruning and quantization do to the facts in a language model's weights.

    >>> import kc_utils as kc
    >>> lm = kc.load("smollm2-135m")
    >>> kc.complete(lm, "The capital of France is", top=3)
    >>> kc.complete(kc.compress(lm, "magnitude@all=0.5"), "The capital of France is", top=3)
    >>> rows = kc.evaluate("smollm2-135m", ["magnitude@all=0.3", "magnitude@all=0.5"], limit=50)
    >>> table = kc.compare(rows)
    >>> kc.plot.curve(table, x="sparsity")

The names below are the public interface; each is imported when it is first used.
"""

import logging
from importlib import import_module

__version__ = "0.1.0"

PUBLIC = {
    "list_models": "kc_utils.models.registry",
    "load": "kc_utils.models.loading",
    "scopes": "kc_utils.models.scopes",
    "complete": "kc_utils.probing.complete",
    "compress": "kc_utils.compression.apply",
    "facts": "kc_utils.probing.sources",
    "evaluate": "kc_utils.study.rows",
    "results": "kc_utils.study.rows",
    "check": "kc_utils.study.notebooks",
    "compare": "kc_utils.stats.compare",
    "perplexity": "kc_utils.stats.perplexity",
    "plot": "kc_utils.report.plot",
    "state": "kc_utils.report.phrases",
    "show_table": "kc_utils.report.tables",
}
__all__ = list(PUBLIC)

# torchao names compiled extensions that a CPU build of torch cannot load, bitsandbytes an optional download, and that
# it rounds inputs, at every call. transformers imports both, so that this has to come first
for _name in ("torchao", "torch.utils._pytree", "bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions"):
    logging.getLogger(_name).setLevel(logging.ERROR)


def __getattr__(name: str):
    if name not in PUBLIC:
        raise AttributeError(f"module 'kc_utils' has no attribute {name!r}; it has {', '.join(PUBLIC)}")
    if name == "plot":
        return import_module(PUBLIC[name])
    return getattr(import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
