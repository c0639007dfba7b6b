"""TFDS builders of product catalogues; importing this package registers products10k, sku_catalogue, drawn_catalogue."""

from tfds_builder.drawn_catalogue import drawn_catalogue_dataset_builder
from tfds_builder.products10k import products10k_dataset_builder
from tfds_builder.sku_catalogue import sku_catalogue_dataset_builder

BUILDERS = {
    "products10k": products10k_dataset_builder.Builder,
    "sku_catalogue": sku_catalogue_dataset_builder.Builder,
    "drawn_catalogue": drawn_catalogue_dataset_builder.Builder,
}

__all__ = ["BUILDERS"]
