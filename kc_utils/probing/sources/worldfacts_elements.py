"""Chemical elements, from mendeleev: symbols, atomic numbers, classes."""

from __future__ import annotations

from kc_utils.probing.sources.worldfacts_parts import Builder, Sources


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
