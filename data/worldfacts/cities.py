"""Cities: the country of a city, the US state of a city, the capital of a US state.

GeoNames gives the cities. It lists districts beside cities; those among the largest were read through by hand and
are named in cities.yaml, together with English spellings.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache

from countries import capital_names, country_answer
from packages import Builder, Sources, folded, read_yaml

MIN_CITY = 200_000
"""Cities from this population on."""
PER_COUNTRY, PER_LARGE_COUNTRY = 10, 16
"""At most so many of the largest cities per country, so that no country fills the list."""
MIN_US_CITY = 100_000
NAMESAKE = 0.05
"""A city is ambiguous if another city of its name, elsewhere, has more than this share of its population."""


@cache
def _hand_list() -> dict:
    return read_yaml("cities.yaml")


def add_cities(builder: Builder, sources: Sources) -> None:
    """The three relations of this module."""
    _city_country(builder, sources)
    _city_state(builder, sources)
    _state_capital(builder, sources)


def city_name(city: dict) -> str:
    """The city's usual English name."""
    name = city["name"].replace("’", "'").replace("‘", "'")
    return _hand_list()["names"].get(f"{city['countrycode']} {name}", name)


def _namesakes(sources: Sources) -> dict[str, list[dict]]:
    table = defaultdict(list)
    for city in sources.cities:
        for name in {folded(city["name"]), folded(city_name(city))}:
            table[name].append(city)
    return table


def _ambiguous(city: dict, others: list[dict], region: str) -> bool:
    """Whether a city of the same name in another region (country or state) is large enough to be meant."""
    return any(o[region] != city[region] and o["population"] > NAMESAKE * city["population"] for o in others)


def _city_country(builder, sources):
    hand, namesakes = _hand_list(), _namesakes(sources)
    taken: dict[str, int] = defaultdict(int)
    for city in sources.cities:
        code = city["countrycode"]
        limit = PER_LARGE_COUNTRY if code in hand["large_countries"] else PER_COUNTRY
        if city["population"] < MIN_CITY or taken[code] == limit:
            continue
        taken[code] += 1
        name = city_name(city)
        key = f"{code} {name}"
        unlike_others = key in hand["meant_in_practice"] or not _ambiguous(city, namesakes[folded(name)], "countrycode")
        if code in hand["no_cities"] or key in hand["not_cities"]:
            builder.drop("city_country", "not_a_city")
        elif key in hand["contested"]:
            builder.drop("city_country", "contested")
        elif folded(name) in {folded(n) for n in _all_capital_names(sources, code)}:
            builder.drop("city_country", "used_as_capital")
        elif key in hand["ambiguous"] or not unlike_others:
            builder.drop("city_country", "ambiguous_subject")
        elif answer := country_answer(builder, sources, "city_country", code):
            builder.add("city_country", city["geonameid"], name, [answer[0]], answer[1], city["population"])


def _all_capital_names(sources, code) -> list[str]:
    names, aliases, _ = capital_names(sources, code)
    return [*names, *aliases, sources.countries[code]["capital"]]


def _city_state(builder, sources):
    hand = _hand_list()
    namesakes = defaultdict(list)
    for city in sources.cities:
        if city["countrycode"] == "US":
            namesakes[folded(city["name"])].append(city)
    for city in sources.cities:
        if city["countrycode"] != "US" or city["population"] < MIN_US_CITY:
            continue
        name, state = city["name"], city["admin1code"]
        if f"US {name}" in hand["not_cities"] or f"US {name} {state}" in hand["not_cities"]:
            builder.drop("city_state", "not_a_city")
        elif _ambiguous(city, namesakes[folded(name)], "admin1code"):
            builder.drop("city_state", "ambiguous_subject")
        elif sources.corrections["state_capitals"].get(state) == name:
            builder.drop("city_state", "used_as_capital")
        else:
            answer = sources.us_states[state]["name"]
            builder.add("city_state", city["geonameid"], name, [answer], popularity=city["population"])


def _state_capital(builder, sources):
    people: dict[str, int] = defaultdict(int)
    for city in sources.cities:
        if city["countrycode"] == "US":
            people[city["admin1code"]] += city["population"]
    for state, capital in sources.corrections["state_capitals"].items():
        name = sources.us_states[state]["name"]
        aliases = ["St. Paul", "St Paul"] if capital == "Saint Paul" else []
        builder.add("state_capital", state, name, [capital], aliases, people[state])
