"""Pages: templates filled in, with everything that is not ours escaped, and no address outside the file."""

import base64
import functools
import hashlib
import importlib.metadata
from typing import Any

import jinja2
from markupsafe import Markup


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("p10k_jax.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@functools.cache
def _source(name: str) -> str:
    templates = _templates()
    return templates.loader.get_source(templates, name)[0]


def render(template: str, **context: Any) -> str:
    """A template as one self-contained HTML file.

    Its own script is the only one that a browser runs: the page's content security policy names its hash, and allows
    no address but pictures within the file.

    Args:
        template: File in `templates/`.
        **context: What it shows. Text is escaped; only `Markup` is taken as HTML.
    """
    script = _source("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _templates()
        .get_template(template)
        .render(
            style=Markup(_source("style.css")),
            script=Markup(script),
            script_sha256=digest,
            version=importlib.metadata.version("p10k_jax"),
            **context,
        )
    )
