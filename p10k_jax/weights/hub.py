"""A model's files on the Hugging Face hub, through the optional `huggingface_hub`: two named files, never a pickle."""

import re
from pathlib import Path
from typing import NamedTuple

PREFIXES = ("hf_hub:", "hf-hub:")
WEIGHTS, CONFIG = "model.safetensors", "config.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class HubFiles(NamedTuple):
    """Where the files lie in the hub's cache on this machine.

    Attributes:
        weights: `model.safetensors`.
        config: `config.json`, None where the repository has none.
        commit: Of the repository, in hex.
        sha256: What the hub says of `weights`, in hex; empty where the cache does not tell.
    """

    weights: Path
    config: Path | None
    commit: str
    sha256: str


def fetch_from_hub(source: str) -> HubFiles:
    """Fetches `hf_hub:OWNER/NAME` or `hf_hub:OWNER/NAME@REVISION`, or finds it in the cache.

    Caches, mirrors, log-in and offline use are `huggingface_hub`'s: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE.

    Raises:
        ValueError: the library is missing, or the hub does not give the file; each says what to do.
    """
    repository, _, revision = source.removeprefix(PREFIXES[0]).removeprefix(PREFIXES[1]).partition("@")
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{source} needs the package huggingface_hub: pip install p10k_jax[hub]") from error
    weights = _fetch(source, repository, WEIGHTS, revision or None)
    commit = weights.parent.name
    # Of the same commit, should the branch move between the two.
    config = _fetch(source, repository, CONFIG, commit, optional=True)
    # The cache holds a link whose target is named by the hash, in git's storage by a shorter one.
    blob = weights.readlink().name if weights.is_symlink() else ""
    return HubFiles(weights, config, commit, blob if _SHA256.fullmatch(blob) else "")


def _fetch(source: str, repository: str, filename: str, revision: str | None, *, optional: bool = False) -> Path | None:
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(repository, filename, revision=revision))
    except errors.GatedRepoError as error:
        raise ValueError(
            f"{source} is gated: accept its terms at https://huggingface.co/{repository}, then log in "
            "(`hf auth login`, or HF_TOKEN)."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(f"{source}: the hub has no such repository, or it is private; is the name right?") from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{source}: the repository has no revision {revision}.") from error
    except errors.LocalEntryNotFoundError as error:
        if optional:
            return None
        raise ValueError(
            f"{source}: {filename} is not in the cache of this machine, and the hub is out of reach or "
            f"HF_HUB_OFFLINE is set. Where there is a network: hf download {repository} {WEIGHTS} {CONFIG} "
            "--local-dir FOLDER; then bring FOLDER here and give it instead."
        ) from error
    except errors.EntryNotFoundError as error:
        if optional:
            return None
        raise ValueError(
            f"{source} has no {filename}; other files could be pickles, which can run any code, and are not read."
        ) from error
    except Exception as error:  # the transport's own errors, which differ between the library's versions
        raise ValueError(f"{source}: {filename} could not be fetched ({type(error).__name__}: {error}).") from error
