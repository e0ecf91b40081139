"""The official homes of benchmarks, as data: what to fetch, which of its files are kept, and under which names.

The top folder of the data layout names the benchmark. Hashes stand here where the publisher's files were seen.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Home:
    """Where one benchmark is published.

    url             an archive, or the one file itself
    licence         of the data
    by_hand         what to do without a network, one sentence
    members         (pattern, name) pairs: a member of the archive that matches is kept as name, with its groups
    sha256          of what the address gives, where known
    fileset_sha256  of the kept files (`files.fileset_sha256`), where known
    max_bytes       of what the address gives; `max_unpacked` of what is in it
    """

    url: str
    licence: str
    by_hand: str
    members: tuple[tuple[str, str], ...] = ()
    sha256: str | None = None
    fileset_sha256: str | None = None
    max_bytes: int = 1 << 28
    max_unpacked: int = 4 << 30

    @property
    def address(self) -> str:
        """The url, or its like on the mirror of the Hugging Face hub that `$HF_ENDPOINT` names."""
        mirror = os.environ.get("HF_ENDPOINT")
        return self.url.replace(HUB, mirror.rstrip("/"), 1) if mirror and self.url.startswith(HUB) else self.url

    def name_of(self, member: str) -> str | None:
        """The name below the benchmark's folder of a member of the archive; None for one that is not kept."""
        for pattern, name in self.members:
            match = re.fullmatch(pattern, member)
            if match:
                return match.expand(name)
        return None


BEAR_COMMIT = "725b4e3139d0a5fdf914b0419ba744273dddc689"
PARAREL_COMMIT = "7cdb6a8b3c54b9d8a3dee92477173dc94ec2da84"
POPQA_REVISION = "098765c79ea10a2cb19c828324e33281b8336ec0"

HOMES: dict[str, Home] = {
    "LAMA": Home(
        url="https://dl.fbaipublicfiles.com/LAMA/data.zip",
        licence="CC BY-NC 4.0",
        by_hand="By hand: unpack https://dl.fbaipublicfiles.com/LAMA/data.zip and rename its folder data/ to LAMA/",
        members=((r"data/((?:TREx/P\d+|Google_RE/\w+_test|ConceptNet/test|Squad/test|relations)\.jsonl)", r"\1"),),
    ),
    "BEAR": Home(
        # the address that lm-pub-quiz, the authors' own library, fetches it from
        url=f"https://github.com/lm-pub-quiz/BEAR/archive/{BEAR_COMMIT}.zip",
        licence="CC BY-SA 4.0",
        by_hand=f"By hand: the folder BEAR/ of https://github.com/lm-pub-quiz/BEAR at commit {BEAR_COMMIT[:12]}",
        members=((r"[^/]+/BEAR/(P\d+\.jsonl|metadata_relations\.json)", r"\1"),),
        fileset_sha256="0aa9e64d38e98582c04a01a403281f88e18cd88669bd72575d72129218fdeb21",
    ),
    "ParaRel": Home(
        url=f"https://github.com/yanaiela/pararel/archive/{PARAREL_COMMIT}.zip",
        licence="MIT",
        by_hand="By hand: the folders data/pattern_data/graphs_json and data/trex_lms_vocab of "
        f"https://github.com/yanaiela/pararel at commit {PARAREL_COMMIT[:12]}, side by side",
        members=(
            (r"[^/]+/data/pattern_data/(graphs_json/P\d+\.jsonl)", r"\1"),
            (r"[^/]+/data/(trex_lms_vocab/P\d+\.jsonl)", r"\1"),
        ),
    ),
    "PopQA": Home(
        url=f"{HUB}/datasets/akariasai/PopQA/resolve/{POPQA_REVISION}/test.tsv",
        licence="none is stated by its authors",
        by_hand="By hand: test.tsv of the Hugging Face data set akariasai/PopQA",
        max_bytes=1 << 26,
    ),
}

_ON_HUB = "on the Hugging Face hub, where the tasks of lm-eval read it themselves"
ELSEWHERE = {
    "harness/boolq": f"By hand: the validation split of google/boolq, one JSON object a line; it is Parquet {_ON_HUB}",
    "harness/piqa": f"By hand: valid.jsonl and valid-labels.lst of https://yonatanbisk.com/piqa; it is ybisk/piqa {_ON_HUB}",
    "harness/winogrande": f"By hand: dev.jsonl of WinoGrande 1.1; it is allenai/winogrande, as Parquet, {_ON_HUB}",
    "wikitext2/wiki.test.raw": "By hand: the test rows of wikitext-2-raw-v1, joined as they are; the data set is "
    "Salesforce/wikitext, as Parquet, on the Hugging Face hub",
}
"""What to do for files that have no address of their own, by folder."""
