#!/usr/bin/env bash
# Makes the certificates again: bash make.sh (needs openssl 3). Their dates are fixed, so that a
# machine whose clock is wrong can test as well.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

cat >"$work/ca.conf" <<'CONF'
[ca]
default_ca = test
[test]
new_certs_dir = $ENV::work
database = $ENV::work/index
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copyall
[any]
commonName = supplied
CONF
touch "$work/index"
export work

# name, common name, extensions of the certificate; signed by itself, or by the authority
new() {
  local name=$1 commonName=$2 signer=$3
  shift 3
  local extensions=()
  for extension in "$@"; do extensions+=(-addext "$extension"); done
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$commonName" \
    -keyout "$work/$name.key" -out "$work/$name.csr" "${extensions[@]}"
  local signed=(-cert ca.crt -keyfile "$work/ca.key")
  if [ "$signer" = self ]; then signed=(-selfsign -keyfile "$work/$name.key"); fi
  openssl ca -batch -notext -config "$work/ca.conf" "${signed[@]}" \
    -startdate 20200101000000Z -enddate 21200101000000Z -in "$work/$name.csr" -out "$name.crt"
}

new ca "effect-redis-lock test CA" self "basicConstraints=critical,CA:TRUE"
new other-ca "effect-redis-lock other test CA" self "basicConstraints=critical,CA:TRUE"
new server "effect-redis-lock test server" ca "subjectAltName=IP:127.0.0.1,DNS:localhost"
new elsewhere "elsewhere.invalid" ca "subjectAltName=DNS:elsewhere.invalid"
cp "$work/server.key" "$work/elsewhere.key" .
chmod 644 ./*.key
