"""A catalogue drawn by code: no download; written in the raw layout, then read by the same reader as real data."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from tfds_builder import base_builder, locking, raw
from tfds_builder import config as config_lib

# JPEG of quality 80-95 with much texture.
_BYTES_PER_PIXEL = 0.6


class Builder(base_builder.CatalogueBuilder):
    """Draws into a temporary folder beside the prepared data, which goes away with the end of the build.

    Keeping the raw files would double the disk; `python -m tfds_builder.drawn_catalogue.write` writes them to stay.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [config_lib.drawn_config(name) for name in ("demo", "tiny", "full")]  # noqa: RUF012

    @classmethod
    def config_from_name(cls, name: str) -> config_lib.CatalogueConfig:
        """The config of any name in the grammar of drawn catalogues."""
        return config_lib.drawn_config(name)

    @contextlib.contextmanager
    def open_raw(self, manual_dir: Path) -> Iterator[raw.RawCatalogue]:
        """Draws the raw catalogue for the time of the build; `manual_dir` is not looked at."""
        from tfds_builder.drawn_catalogue import (
            write,
        )  # late: `python -m tfds_builder.drawn_catalogue.write` imports us

        drawn = self.builder_config.drawn
        pixels = (drawn.num_train + drawn.num_test) * drawn.image_side**2
        base_builder.assert_space(Path(self.data_dir_root), int(2 * _BYTES_PER_PIXEL * pixels))
        with (
            locking.scratch(Path(self.data_dir)) as folder,
            self._bar("drawing", drawn.num_train + drawn.num_test) as bar,
        ):
            write.write_raw_catalogue(
                drawn, folder / "raw", workers=self._workers, progress=lambda done, total: bar.update(done - bar.n)
            )
            bar.close()
            yield raw.open_catalogue(folder / "raw")
