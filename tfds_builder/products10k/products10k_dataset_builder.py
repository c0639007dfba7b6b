"""Products-10K, the official dataset, from manually downloaded files."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from tfds_builder import base_builder, raw


class Builder(base_builder.CatalogueBuilder):
    """Asserts every published count and fact (facts.py) before it builds."""

    VERSION = tfds.core.Version("1.0.0")
    HOMEPAGE = "https://products-10k.github.io/"
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
Products-10K is free for non-commercial research and education only, and must not be redistributed, so everyone gets it
from its owners: the owners' page https://products-10k.github.io/challenge.html, or Kaggle, competition `products-10k`.
Into manual_dir go

  train.zip, test.zip       or the folders train/, test/ unpacked from them
  train.csv                 name,class,group (141,931 rows)
  test_kaggletest.csv       name,class,Usage (55,376 rows); Kaggle's test.csv has names without classes: not enough

or the single archive that Kaggle's command line gives, as it is, with test_kaggletest.csv beside it if it has none.
"""

    @contextlib.contextmanager
    def open_raw(self, manual_dir: Path) -> Iterator[raw.RawCatalogue]:
        """The raw catalogue, with every published fact asserted."""
        yield raw.open_catalogue(manual_dir, official=True, test_percent=self.builder_config.preparation.test_percent)
