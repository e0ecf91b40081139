"""How an answer is read off a model. Each protocol turns facts into contexts, and readings into one row per fact."""
