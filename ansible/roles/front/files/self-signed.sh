#!/bin/sh
# A certificate for hosts that nobody has given one: good for five years, for a name and an address.
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
mv .key.pem key.pem  # last: Ansible takes it for the sign that both are there
