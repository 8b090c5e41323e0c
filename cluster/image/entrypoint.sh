#!/bin/sh
# What the image runs first: it says which lock it was installed from, and then becomes the command.
set -eu
ALBUMEN_LOCK_SHA256=$(cat /opt/albumen/lock.sha256)
export ALBUMEN_LOCK_SHA256
exec "$@"
