"""What a result was made with: versions, hardware, time."""

import platform
import re
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

from kc_utils.places import cores

SCORING_PACKAGES = ("torch", "transformers", "tokenizers")
COMPRESSING_PACKAGES = (*SCORING_PACKAGES, "safetensors", "optimum", "gptqmodel", "torchao", "bitsandbytes")
PACKAGES = (
    *SCORING_PACKAGES,
    *("accelerate", "safetensors", "numpy", "scipy", "pandas", "pyarrow", "statsmodels", "seaborn", "matplotlib"),
    *("papermill", "jupyter-book", "snakemake", "gguf"),
)


@cache
def version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions(packages=PACKAGES) -> dict[str, str]:
    """Return installed versions, without packages that are not installed."""
    return {p: v for p in packages if (v := version_of(p))}


@cache
def hardware() -> dict:
    """Return processor, cores, memory in GiB, accelerator. No host name, no paths."""
    import psutil
    import torch

    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:(.*)", file.read_text(encoding="utf-8") if file.is_file() else "", re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()
