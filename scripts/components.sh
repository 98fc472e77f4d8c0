#!/bin/sh
# components.sh NAME…: Debian packages that tests need as real counterparts: installed when missing, if we are root.
# Says nothing when there is nothing to do. Services that a package brings are not started.
set -eu
missing=""
for name in "$@"; do
  dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing="$missing $name"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "components.sh: not installed:$missing; install them, or run this as root" >&2
  exit 1
fi
policy=/usr/sbin/policy-rc.d # asked by Debian's packages whether they may start what they bring
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
# One at a time: test processes that run side by side may ask for the same package.
exec 9>/tmp/.assent-components.lock
flock 9
apt-get -qq update >/dev/null 2>&1 || true
# shellcheck disable=SC2086
if ! out=$(apt-get -qq install -y --no-install-recommends $missing 2>&1); then
  echo "$out" >&2
  exit 1
fi
