"""What decides on every page: the values of `decision.yaml`, each with its reason there, and the hash of that file."""

import hashlib
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("decision.yaml")
SHA256 = hashlib.sha256(FILE.read_bytes()).hexdigest()
DECISION = {name: given["value"] for name, given in yaml.safe_load(FILE.read_text(encoding="utf-8")).items()}
LEVEL: float = DECISION["level"]
LEAST: float = DECISION["least"]
FACTS: int = DECISION["facts"]
MARGIN: float = DECISION["margin"]
MODELS: int = DECISION["models"]
PROTOCOLS = tuple(DECISION["protocols"])
POOLED = frozenset(DECISION["pooled"])
