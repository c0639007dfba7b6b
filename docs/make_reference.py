"""Makes the reference out of docstrings: HTML pages of p10k_jax, tfds_builder and configs in docs/_build.

pip install -c constraints.txt -e .[docs] && python docs/make_reference.py
"""

import argparse
import inspect
import os
from collections.abc import Sequence
from pathlib import Path

# Importing packages asks the system for its name; pdoc else forbids it with a warning.
os.environ.setdefault("PDOC_ALLOW_EXEC", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pdoc
import pdoc.doc
import pdoc.render

PACKAGES = ("p10k_jax", "tfds_builder", "configs")
ROOT = Path(__file__).parent.parent
# As they are written in the code: `Float[Array, 'b c']`, and a config as one name.
_SHORTER = (
    ("jaxtyping.", ""),
    ("jax.jaxlib._jax.", "jax."),
    ("jaxlib._jax.", ""),
    ("jax._src.mesh.", ""),
    ("jax._src.stages.", ""),
    ("optax._src.base.", "optax."),
    ("ml_collections.config_dict.config_dict.", ""),
    ("tensorflow_datasets.core.dataset_builder.", "tfds.core."),
)


def shorten_annotations() -> None:
    """Has signatures and attributes show types by the names that the code calls them by."""
    whole = inspect.formatannotation

    def short(*arguments, **more) -> str:
        text = whole(*arguments, **more)
        for long, name in _SHORTER:
            text = text.replace(long, name)
        return text

    inspect.formatannotation = pdoc.doc.formatannotation = short


def make(folder: Path) -> list[Path]:
    """Writes the pages and returns their paths."""
    shorten_annotations()
    pdoc.render.configure(docformat="google", show_source=True, footer_text="p10k_jax")
    pdoc.pdoc(*PACKAGES, output_directory=folder)
    return sorted(folder.rglob("*.html"))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "_build", metavar="FOLDER")
    folder = parser.parse_args(arguments).output
    print(f"{len(make(folder))} pages in {folder}; open {folder / 'index.html'}")


if __name__ == "__main__":
    main()
