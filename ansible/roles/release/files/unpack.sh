#!/bin/sh
# Unpack a release beside its place and move it there in one step; the archive is not needed any more.
#   unpack.sh ARCHIVE TARGET
set -eu
umask 022
staging=$2.staging
rm -rf "$staging" "$2"
mkdir -p "$staging"
tar --extract --gzip --file "$1" --directory "$staging" --no-same-owner
mv "$staging" "$2"
rm -f "$1"
