"""The lab: a controlled world, models of all three families trained on it, and what can be measured of them alone.

world -> tokenizer -> corpus (rows of token ids) -> models, objectives, training -> cards (checkpoints, recall)
measures: relearning (instrument of a probe), hidden (lost facts queried in other ways), bits (knowledge in bits)

kc_utils reaches this package through `kc_utils.lab` alone.
"""
