#!/usr/bin/env bash
# Installs this clone into .venv, with Python 3.12 (uv brings it where the machine has an older one): install.sh EXTRAS
#
#   docs/cloud/install.sh tpu,gcs
set -euo pipefail
[ $# = 1 ] || { echo "install.sh: name the extras, for example install.sh tpu,gcs" >&2; exit 2; }
cd "$(dirname "$0")/../.."

PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || curl --location --silent --show-error --fail https://astral.sh/uv/install.sh | sh
uv venv --quiet --allow-existing --python 3.12 .venv
uv pip install --quiet --python .venv/bin/python --constraints constraints.txt --editable ".[$1]"
.venv/bin/python -c 'import jax; print("jax", jax.__version__, "installed")'
