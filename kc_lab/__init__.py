"""The controlled world: people, places and a rule of our own making, and models of all three families that learned them.

names -> world, rule -> corpus (rows of token ids) -> training -> checkpoint with a card
"""
