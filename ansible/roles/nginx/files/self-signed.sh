#!/bin/sh
# Create a self-signed certificate for a name and an address, valid for five years.
#   self-signed.sh FOLDER NAME ADDRESS
set -eu
umask 027
cd "$1"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1825 -subj "/CN=$2" \
    -addext "subjectAltName=DNS:$2,IP:$3" -keyout .key.pem -out .certificate.pem 2>/dev/null
chgrp assist-nginx .key.pem
chmod 0640 .key.pem
chmod 0644 .certificate.pem
mv .certificate.pem certificate.pem
mv .key.pem key.pem  # last, because the role checks for this file alone
