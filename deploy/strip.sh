#!/bin/sh
# Take the attack code out of an installed buckler: deploy/strip.sh .../site-packages/buckler
set -eu
for part in attacks harden assess; do
    rm -r "$1/$part"
done
