#!/bin/sh
# Makes the secrets of compose.yaml, once: passwords that nobody has chosen, in files that only their readers may read.
# Run it as root: the numbers are those of the users inside the containers (node 10001, PostgreSQL 999).
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
if [ -e secrets/database_password ]; then
    echo "docker/secrets is there already; nothing was changed." >&2
    exit 0
fi
word() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
password="$(word)"
word >secrets/database_password
printf %s "$password" >secrets/orthanc_password
printf '{"RegisteredUsers": {"node": "%s"}}\n' "$password" >secrets/orthanc_users.json
# PostgreSQL reads its password before it drops to group 999, the node as its own user.
chown 999:10001 secrets/database_password
chmod 440 secrets/database_password
chown 10001:10001 secrets/orthanc_password
chmod 711 secrets
