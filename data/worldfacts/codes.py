"""Chemical elements, and the codes of currencies (ISO 4217) and languages (ISO 639-1), with the script of a language.

Elements come from mendeleev; names and scripts from CLDR through babel, the list of two-letter codes from pycountry.
"""

from __future__ import annotations

from collections import defaultdict

from countries import currency_name, language_name, territory_currencies
from packages import Builder, Sources

MIN_SPEAKERS = 50_000
"""Languages below this estimate are left out."""


def add_codes(builder: Builder, sources: Sources) -> None:
    """Currency codes both ways, language codes, scripts."""
    _currency_codes(builder, sources)
    _languages(builder, sources)


def _currency_codes(builder, sources):
    users: dict[str, int] = defaultdict(int)
    for code, country in sources.countries.items():
        for currency in territory_currencies(code):
            users[currency] += country["population"]
    for currency, people in sorted(users.items()):
        name = currency_name(sources, currency)
        aliases = sources.corrections["name_aliases"].get(currency, [])
        builder.add("currency_code", currency, f"the {name}", [currency], popularity=people)
        builder.add("code_currency", currency, currency, [name], aliases, people)


def speakers(sources: Sources) -> dict[str, float]:
    """Speakers by language code: CLDR's share of each territory's people times GeoNames' population. A rough figure,
    good for telling head from tail: second-language speakers are in, census years differ."""
    from babel.core import get_global

    total: dict[str, float] = defaultdict(float)
    shares = get_global("territory_languages")
    for code, country in sources.countries.items():
        for language, share in shares.get(code, {}).items():
            total[language.split("_")[0]] += country["population"] * share["population_percent"] / 100
    return total


def _languages(builder, sources):
    import pycountry
    from babel.core import get_global

    fixes, people = sources.corrections, speakers(sources)
    scripts, likely = {s.alpha_4: s.name for s in pycountry.scripts}, get_global("likely_subtags")
    codes = sorted(entry.alpha_2 for entry in pycountry.languages if hasattr(entry, "alpha_2"))
    for code in codes:
        name = language_name(sources, code)
        if name is None or people[code] < MIN_SPEAKERS:
            for relation in ("language_code", "language_script"):
                builder.drop(relation, "few_speakers")
            continue
        popularity = float(round(people[code]))
        builder.add("language_code", code, name, [code], popularity=popularity)
        script = likely[code].split("_")[1] if code in likely else None
        if code in fixes["several_scripts"] or script is None:
            builder.drop("language_script", "several_scripts")
            continue
        # "Devanagari (Nagari)" -> "Devanagari"
        label = fixes["script_names"].get(script) or scripts[script].split(" (")[0].split(",")[0]
        builder.add("language_script", code, name, [label], fixes["script_aliases"].get(label, []), popularity)


def add_elements(builder: Builder, sources: Sources) -> None:
    """Five relations over the 118 elements; classes only where textbooks agree."""
    fixes = sources.corrections
    for element in sources.elements:
        number, symbol, abundance = element["number"], element["symbol"], element["abundance"]
        name = element["name"].lower()
        aliases = fixes["element_aliases"].get(number, [])
        builder.add("element_symbol", number, name, [symbol], popularity=abundance)
        builder.add("symbol_element", number, symbol, [name], aliases, abundance)
        builder.add("atomic_number", number, name, [str(number)], popularity=abundance)
        builder.add("number_element", number, str(number), [name], aliases, abundance)
        if number in fixes["element_class_contested"] or number > 103:
            # beyond 103 the chemistry is mostly predicted
            builder.drop("element_class", "contested")
        else:
            known = fixes["element_class_names"][element["series"]]
            builder.add("element_class", number, name, known["answers"], known.get("aliases", []), abundance)
