#!/bin/sh
# Prepares this machine and .venv: Debian packages, the kernel headers that bcc needs, the Python environment.
# Quick when there is nothing to do. Run by `make setup`, as root on Debian 12.
set -eu
cd "$(dirname "$0")/.."

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

[ -r /etc/debian_version ] || fail "this set-up knows Debian; elsewhere install the packages that .ci/setup.sh names"

# apache2-bin and not apache2: the module brings its own configuration, and no service is started on this machine.
# Of the others with a service there is no such package: their services are kept from starting, below.
packages="python3 python3-venv python3-bpfcc iproute2 nftables tcpdump util-linux apache2-bin procps iputils-ping nginx etcd-server e2fsprogs xfsprogs postgresql mariadb-server firebird3.0-server prometheus snmp snmpd snmptrapd chromium fonts-dejavu-core podman runc busybox-static"
missing=""
for package in $packages; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done

apt_ready=""
apt_install() {
  [ "$(id -u)" = 0 ] || fail "these packages are missing, and only root can install them: $*"
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  if [ -z "$apt_ready" ]; then apt-get update -q >/dev/null; apt_ready=yes; fi
  apt-get install -yq --no-install-recommends "$@" >/dev/null
}

if [ -n "$missing" ]; then
  say "installing$missing"
  # shellcheck disable=SC2086
  apt_install $missing
  for service in etcd nginx postgresql mariadb firebird3.0 prometheus snmpd snmptrapd; do
    case $missing in *"$service"*) ! command -v systemctl >/dev/null || systemctl disable "$service" >/dev/null 2>&1 || : ;; esac
  done
fi

# bcc compiles against /lib/modules/$(uname -r)/build and source.
kernel=/lib/modules/$(uname -r)
if [ ! -e "$kernel/build/Makefile" ]; then
  say "installing kernel headers for bcc"
  if ! apt_install "linux-headers-$(uname -r)" 2>/dev/null || [ ! -e "$kernel/build/Makefile" ]; then
    # This kernel is not Debian's: the filter uses only the stable user-space interface, so Debian's headers serve.
    apt_install linux-headers-amd64
    headers=$(find /usr/src -maxdepth 1 -name 'linux-headers-*-amd64' | sort -V | tail -n 1)
    [ -n "$headers" ] || fail "no kernel headers were found below /usr/src"
    mkdir -p "$kernel"
    ln -sfn "$headers" "$kernel/build"
    ln -sfn "${headers%-amd64}-common" "$kernel/source"
  fi
fi

stamp=.venv/.prepared
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ .ci/setup.sh -nt "$stamp" ]; then
  say "preparing .venv"
  # The distribution's Python, because python3-bpfcc belongs to it.
  /usr/bin/python3 -m venv --system-site-packages .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
  .venv/bin/python -m pip install -q --disable-pip-version-check --editable . --group dev
  touch "$stamp"
fi
.venv/bin/python -c 'import bcc' || fail "python3-bpfcc is installed, but .venv does not see it: rm -r .venv; make setup"
