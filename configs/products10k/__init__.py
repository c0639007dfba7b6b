"""A ladder of runs on the official split of Products-10K, cheapest first; each rung adds to the one below.

No rung has been run on the real Products-10K, which may not be redistributed: what the docstrings say of accuracy is
what is published, not what was measured. Every rung is built and lowered in the test suite, and runs on any catalogue
with `--config.data.name=sku_catalogue`.
"""
