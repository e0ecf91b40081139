"""Sentences about several models: who loses first, and whether facts or skills suffer."""

import pandas as pd

from kc_utils.stats.findings import decimals
from kc_utils.stats.lab_findings import baselines, first_losses, more_or_less, skill_sentences
from kc_utils.stats.seeds import over_seeds
from kc_utils.stats.summary import recipe_fields

RECIPES = ["magnitude@all=0.2", "magnitude@all=0.5"]
KEPT = {  # line -> recipe -> retention of three seeds
    "encoder": {"magnitude@all=0.2": (0.80, 0.82, 0.81), "magnitude@all=0.5": (0.20, 0.24, 0.22)},
    "decoder": {"magnitude@all=0.2": (1.00, 0.99, 1.01), "magnitude@all=0.5": (0.60, 0.66, 0.63)},
}


def frames(kept=KEPT, skill=0.97, seeds=3):
    lines = []
    for line, recipes in kept.items():
        for recipe, values in {"none": (1.0, 1.0, 1.0), **recipes}.items():
            for asked in ("taught", "stated", "rule"):
                for seed, value in enumerate(values[:seeds], start=1):
                    lost = value if asked == "taught" or recipe == "none" else skill + 0.005 * seed
                    lines.append(
                        {"line": line, "seed": f"s{seed}", "model": f"{line}{seed}", "asked": asked, "n": 300,
                         **recipe_fields(recipe), "retention": lost, "accuracy": 0.95 * lost}
                    )  # fmt: skip
    singles = pd.DataFrame(lines)
    return over_seeds(singles, ("retention", "accuracy")), singles


def test_who_loses_first_and_by_how_much():
    encoder, decoder, first = first_losses(*frames(), RECIPES)
    assert encoder.startswith("**encoder**: the loss is first clear at 20\u00a0% sparsity, where 81")
    assert "At 50\u00a0% sparsity it keeps 22" in encoder
    assert decoder.startswith("**decoder**: the loss is first clear at 50")
    assert first.startswith("**First to lose** is encoder, at 20\u00a0% sparsity: it keeps 19 points (")
    assert "less than decoder (clear), by Welch" in first


def test_lines_that_lose_at_the_same_amount():
    both = {"encoder": KEPT["encoder"], "decoder": {**KEPT["decoder"], "magnitude@all=0.2": (0.79, 0.85, 0.82)}}
    first = first_losses(*frames(both), RECIPES)[-1]
    assert first.startswith("**First to lose** are encoder and decoder together, encoder most")
    assert "undecided" in first


def test_nothing_is_clear_without_a_second_seed():
    sentences = first_losses(*frames(seeds=1), RECIPES)
    assert len(sentences) == 2
    assert all("no clear loss at any amount tested (one seed has no interval)" in s for s in sentences)


def test_facts_or_skills():
    (encoder, decoder) = skill_sentences(*frames(), RECIPES)
    assert encoder.count("facts suffer more") == 2
    assert "at 50" in decoder
    worse = skill_sentences(*frames(skill=0.05), RECIPES)
    assert all(text.count("the skill suffers more") == 2 for text in worse)


def test_what_the_uncompressed_models_answer():
    text = baselines(frames()[0])
    assert "means over 3 seeds" in text
    assert "encoder 95" in text
    assert "300 agreement rule" in text


def test_one_fact_lost_by_every_seed_is_no_clear_loss():
    alike = {"encoder": dict.fromkeys(RECIPES, (0.9975, 0.9975, 0.9975))}
    assert "no clear loss" in first_losses(*frames(alike), RECIPES)[0]


def test_a_difference_is_told_without_its_sign():
    assert more_or_less(-0.0861, -0.112, 0.0004, decimals) == "8.6 points (\u22120.04 to 11.2) less"
    assert more_or_less(0.012, -0.02, 0.04) == "1 point (\u22122 to 4) more"
