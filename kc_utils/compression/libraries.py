"""Import the libraries that quantize, when a recipe asks for them (their noise is turned off in `kc_utils`)."""

from importlib import import_module
from types import ModuleType

from kc_utils.errors import MissingData


def torchao() -> ModuleType:
    """torchao.quantization. Raises MissingData when it is not installed."""
    return _imported("torchao.quantization")


def bitsandbytes() -> ModuleType:
    """bitsandbytes. Raises MissingData when it is not installed."""
    return _imported("bitsandbytes")


def _imported(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise MissingData(
            f"{package} could not be imported ({error}); pip install -c constraints.txt {package}, or use rtn"
        ) from error
