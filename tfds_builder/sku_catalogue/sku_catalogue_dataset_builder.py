"""Anyone's own product catalogue, in the raw layout of Products-10K or as a folder tree."""

from tensorflow_datasets import core

from tfds_builder import base_builder


class Builder(base_builder.CatalogueBuilder):
    """Any number of classes; their names and number come from the raw files."""

    VERSION = core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
manual_dir holds your catalogue, either as tables and pictures

  train.csv                 name,class[,group]; classes 0..C-1 without a gap, one group a class
  test_kaggletest.csv       name,class[,Usage]; Usage is Public or Private (test.csv with name,class works too)
  train.zip, test.zip       or folders train/, test/ with the pictures, or one archive with everything
  classes.csv               optional: class,class_name[,group,group_name]

or as a folder tree

  train/CLASS/*.jpg and test/CLASS/*.jpg, or only CLASS/*.jpg: then 20 % of each class become the test split
"""
