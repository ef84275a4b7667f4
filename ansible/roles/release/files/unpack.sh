#!/bin/sh
# Unpack a release beside its target, rename it, and remove the archive.
#   unpack.sh ARCHIVE TARGET
set -eu
umask 022
# The script of an interrupted run may still be working; wait for its end.
exec 9<"$(dirname "$2")"
flock 9
[ ! -e "$2/.complete" ] || exit 0
staging=$2.staging
rm -rf "$staging" "$2"
mkdir -p "$staging"
tar --extract --gzip --file "$1" --directory "$staging" --no-same-owner
mv "$staging" "$2"
rm -f "$1"
