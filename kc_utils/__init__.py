__version__ = "0.1.0"

import logging

# torchao names compiled extensions that a CPU build of torch cannot load, bitsandbytes an optional download, and that
# it rounds inputs, at every call. transformers imports both, so that this has to come first
for _name in ("torchao", "torch.utils._pytree", "bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions"):
    logging.getLogger(_name).setLevel(logging.ERROR)
