"""What the pages say is there: links, anchors, files, modules, flags and settings of every command."""

import contextlib
import functools
import importlib
import importlib.util
import io
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from absl import flags

from configs import common, resnet, vit
from p10k_jax.config import config_of_arguments, flat

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("C*.md"), *(ROOT / "docs").glob("*.md")])
OURS = ("p10k_jax", "tfds_builder")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    return broken


@pages
def test_links_lead_somewhere(page):
    assert broken_links(page, page.read_text()) == []


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """`python -m MODULE ARGUMENTS`, of blocks and of inline code: (module, arguments)."""
    blocks = re.findall(r"^```(?:bash|python)?\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    for code in [*blocks, *inline]:
        code = code.replace("\\\n", " ")
        for name, value in re.findall(r'^(\w+)="([^"\n]*)"$', code, flags=re.MULTILINE):
            code = code.replace(f"${name}", value)
        for module, rest in re.findall(r"python3? -m ([\w.]+)([^\n]*)", code):
            if module.partition(".")[0] in OURS:
                rest = re.split(r"&&|;| #", rest)[0]
                if rest.count('"') % 2:  # what stands within --command="..."
                    rest = rest.rpartition('"')[0]
                yield module, shlex.split(rest)


@functools.cache
def known_flags(module: str) -> frozenset[str]:
    """The flags of a program, without the config's own."""
    program = importlib.import_module(module)
    if hasattr(program, "__path__"):
        program = importlib.import_module(f"{module}.__main__")
    if hasattr(program, "define_flags"):
        before = set(flags.FLAGS)
        program.define_flags()
        found = set(flags.FLAGS) - before
        for name in found:
            delattr(flags.FLAGS, name)
        return frozenset(found)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        program.main(["--help"])
    return frozenset(re.findall(r"--(\w+)", said.getvalue()))


def problems(text: str) -> list[str]:
    """What the commands of a page name and is not there."""
    found = []
    for module, arguments in commands(text):
        try:
            known = known_flags(module)
        except (ModuleNotFoundError, AttributeError):
            found.append(f"no program {module}")
            continue
        for argument in arguments:
            name, _, value = argument.removeprefix("--").partition("=")
            if not argument.startswith("--") or name == "help":
                continue
            if name.startswith("config.") and "config" in known:
                if name.removeprefix("config.") not in SETTINGS:
                    found.append(f"{module}: no setting {name}")
            elif name not in known:
                found.append(f"{module}: no flag --{name}")
            elif name == "config" and module.startswith("p10k_jax") and not re.match(r"configs/|FILE\b", value):
                found.append(f"--config={value} is no file of configs/")
    return found


def options() -> set[str]:
    """The settings of all models: `model.options` has those of a family."""
    made = (vit.get_config(), resnet.get_config(), common.get_config())
    return {key for config in made for key in flat(config.to_dict())}


SETTINGS = options()
GROUPS = {key.partition(".")[0] for key in SETTINGS if "." in key}


@pages
def test_commands_name_programs_flags_and_settings(page):
    assert problems(page.read_text()) == []


@pages
def test_configs_of_commands_take_what_is_given(page):
    """Where the config file can be made without anything else, so can it with what the command changes."""
    for module, arguments in commands(page.read_text()):
        config = [word for word in arguments if re.match(r"--config(\.[\w.]+)?=", word)]
        if not module.startswith("p10k_jax") or not any(word.startswith("--config=configs/") for word in config):
            continue
        if any("second_stage" in word or "NAME=SOURCE" in word for word in config):  # of another run, of other weights
            continue
        config_of_arguments([word.replace("model=NAME", "model=vit_small_patch14_dinov2") for word in config])


@pages
def test_settings_in_the_text_are_settings(page):
    """`group.key` and `group.key=value` in inline code; files and functions are written otherwise."""
    found = set()
    for code in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)):
        for word in code.split():
            key = word.partition("=")[0].removeprefix("--config.")
            if key.partition(".")[0] in GROUPS and re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", key):
                found.add(key)
    files = {"model.safetensors", "model.jaxexport"} | {key for key in found if key.endswith(".py")}
    parts = {".".join(key.split(".")[:n]) for key in SETTINGS for n in range(1, key.count(".") + 1)}
    assert found - files - SETTINGS - parts == set()


@pages
def test_files_and_modules_in_the_text_exist(page):
    text = page.read_text()
    paths = re.findall(r"(?<![\w/.])((?:configs|p10k_jax|tfds_builder|tests|docs)/[\w/.-]*[\w/])", text)
    missing = [path for path in paths if not any(ROOT.glob(path.rstrip("/")))]
    modules = re.findall(r"(?<![\w/.-])((?:p10k_jax|tfds_builder)(?:\.\w+)+)", text)
    missing += [name for name in set(modules) if not importable(name)]
    assert missing == []


def importable(name: str) -> bool:
    """Whether it is a module, or something in one."""
    parent, _, last = name.rpartition(".")
    with contextlib.suppress(ModuleNotFoundError):
        if importlib.util.find_spec(name) is not None:
            return True
    try:
        return hasattr(importlib.import_module(parent), last)
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("`python -m p10k_jax.trian --workdir=W`", "no program p10k_jax.trian"),
        ("`python -m p10k_jax.train --workdri=W`", "p10k_jax.train: no flag --workdri"),
        ("```bash\npython -m p10k_jax.train \\\n  --config.optimizer.rate=1\n```", "no setting config.optimizer.rate"),
        ('```bash\nA="--config.a=1"\npython -m p10k_jax.train $A --workdir=W\n```', "no setting config.a"),
        ("`python -m tfds_builder.build sku_catalogue --manual=RAW`", "tfds_builder.build: no flag --manual"),
        ("`python -m p10k_jax.models resnet50 --weigths=W`", "p10k_jax.models: no flag --weigths"),
        ("`python -m p10k_jax.train --config=config/vit.py`", "is no file of configs/"),
        ('`ssh --command="python -m p10k_jax.train --wokrdir=W"`', "p10k_jax.train: no flag --wokrdir"),
    ],
)
def test_a_wrong_command_is_seen(text, problem):
    (found,) = problems(text)
    assert problem in found


def test_a_broken_link_is_seen():
    readme = ROOT / "README.md"
    text = "# A `b` c\n[a](docs/nothing.md) [b](#a-b-c) [c](#none) [d](https://x.org) ![e](docs/none.svg) [f](docs/)"
    assert broken_links(readme, text)[:1] == ["docs/nothing.md"]
    assert {"#none", "docs/none.svg"} < set(broken_links(readme, text))
    assert anchors("## Like `this`, and that\n") == {"like-this-and-that"}


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors"} <= citation.keys()
    (paper,) = citation["references"]
    bib = (ROOT / "tfds_builder/products10k/CITATIONS.bib").read_text()
    assert paper["title"] in bib
    assert " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"]) in bib
