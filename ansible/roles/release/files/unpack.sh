#!/bin/sh
# Unpack a release beside its place and move it there in one step; the archive is not needed any more.
#   unpack.sh ARCHIVE TARGET
set -eu
umask 022
# The script of a run that was killed goes on without it; let it end.
exec 9<"$(dirname "$2")"
flock 9
[ ! -e "$2/.complete" ] || exit 0
staging=$2.staging
rm -rf "$staging" "$2"
mkdir -p "$staging"
tar --extract --gzip --file "$1" --directory "$staging" --no-same-owner
mv "$staging" "$2"
rm -f "$1"
