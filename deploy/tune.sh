#!/bin/sh
# Tunes this host for a node, and takes that back. What it sets, and what it was before, is said line by line; a reboot
# undoes all of it. The work is done by `ashlar doctor`; `deploy/ashlar-tune.service` does the same at each boot.
#
#   tune.sh show   [DIR]    what is as it should be, and what is not
#   tune.sh apply  [DIR]    change what can be changed at once
#   tune.sh revert          put it back
set -eu

ashlar=${ASHLAR:-ashlar}
dir=${2:-/var/lib/ashlar/data}

case "${1:-}" in
show) exec "$ashlar" doctor --data "$dir" ;;
apply) exec "$ashlar" doctor --fix --data "$dir" ;;
revert) exec "$ashlar" doctor --revert ;;
*)
    echo "usage: $0 show|apply|revert [DIR]" >&2
    exit 2
    ;;
esac
