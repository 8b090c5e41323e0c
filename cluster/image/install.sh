#!/bin/sh
# Installs Albumen and everything that it stands on into PREFIX, from the lock and with every file's hash compared. The
# container files run it; a machine without containers can run it as well: cluster/image/install.sh /opt/albumen
#
# The registry, a proxy or a folder of wheels is whatever pip and uv are told in the environment (PIP_INDEX_URL,
# UV_DEFAULT_INDEX, PIP_FIND_LINKS ...); no address is written here.
set -eu

prefix=${1:?usage: install.sh PREFIX}
python=${PYTHON:-python3}
source=$(cd "$(dirname "$0")/../.." && pwd)
uv_version=$(sed -n 's/^UV_VERSION := //p' "$source/Makefile")

"$python" -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 13) else "Albumen needs Python 3.11 or 3.12")'
"$python" -m venv "$prefix"
"$prefix/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
# Compiled here: where a container's files cannot be written, every worker would compile what it imports, and import slowly.
"$prefix/bin/uv" pip install --quiet --python "$prefix/bin/python" --no-deps --require-hashes --compile-bytecode \
    --requirement "$source/requirements.lock"
"$prefix/bin/uv" pip install --quiet --python "$prefix/bin/python" --no-deps --no-build-isolation --compile-bytecode "$source"

# Nodes compare it before they work together; the driver refuses one that was installed from another lock.
sha256sum "$source/requirements.lock" | cut -d ' ' -f 1 > "$prefix/lock.sha256"
"$prefix/bin/albumen" --help > /dev/null
