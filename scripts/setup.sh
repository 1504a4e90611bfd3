#!/bin/bash
# Make this machine ready: setup.sh run|build|demo|test|bench.
#
# Installs the Debian packages of scripts/debian-packages that are missing, then a virtual environment in .venv with the
# versions of constraints.txt. A second run finds everything there and takes a fraction of a second.
set -euo pipefail
cd "$(dirname "$0")/.."

usage="usage: scripts/setup.sh run|build|demo|test|bench"
purpose=${1:?$usage}
[[ $purpose =~ ^(run|build|demo|test|bench)$ ]] || { echo "$usage" >&2; exit 2; }
log=build/setup.log
mkdir -p build

say() { echo "==> $*"; }

# Run a command quietly; if it fails, show what it said.
quietly() {
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        echo "setup: failed: $*" >&2
        exit 1
    fi
}

# The packages of every purpose up to the one asked for.
wanted() {
    awk -v upto="$purpose" '
        BEGIN { split("run build demo test bench", order); for (at in order) rank[order[at]] = at }
        /^[a-z]/ && rank[$1] <= rank[upto] { print $2 }' scripts/debian-packages
}

missing() {
    local package
    for package in $(wanted); do
        [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || echo "$package"
    done
}

# Where nothing supervises services, none may be started by an installation either (invoke-rc.d asks this file).
deny_service_starts() {
    local policy=/usr/sbin/policy-rc.d
    [[ -d /run/systemd/system || -e $policy ]] && return
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap "rm -f $policy" EXIT
}

debian_packages() {
    command -v dpkg-query >/dev/null || { say "not a Debian system: packages are yours to install, see scripts/debian-packages"; return; }
    local packages
    packages=$(missing)
    [[ -z $packages ]] && return
    if ((EUID != 0)); then
        echo "setup: run this as root, or install: ${packages//$'\n'/ }" >&2
        exit 1
    fi
    deny_service_starts
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none
    local apt=(apt-get -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold)
    say "Debian's package lists"
    quietly "${apt[@]}" update
    say "Debian packages: ${packages//$'\n'/ }"
    # shellcheck disable=SC2086  # a list of words
    quietly "${apt[@]}" install --yes --no-install-recommends $packages
}

# Debian's own Python where it is new enough, else the first that is.
interpreter() {
    local candidate
    for candidate in /usr/bin/python3 python3.13 python3.12 python3.11 python3; do
        if "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "setup: Python 3.11 or newer with its venv module is needed" >&2
    exit 1
}

# The environment is made anew in another place, for another Python or for other versions; the package is installed again
# when its description or its C sources change.
environment() {
    local extras=$1 python base whole
    python=$(interpreter)
    base=$({ pwd; "$python" -VV; cat constraints.txt scripts/setup.sh; } | sha256sum)
    shopt -s nullglob globstar
    whole=$({ echo "$base"; cat pyproject.toml hatch_build*.py src/**/*.[ch] bpf/**/*.[ch]; } | sha256sum)
    same "$whole" .venv/whole.dev || same "$whole" ".venv/whole$extras" && return

    local pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input install --quiet --constraint constraints.txt)
    export PIP_ROOT_USER_ACTION=ignore
    say "Python packages, into .venv (half a minute the first time)"
    if ! same "$base" .venv/base; then
        quietly "$python" -m venv --clear .venv
        quietly "${pip[@]}" hatchling editables
        echo "$base" >.venv/base
    fi
    # Without isolation, so that what builds the package is pinned like everything else.
    quietly "${pip[@]}" --no-build-isolation --editable ".${extras:+[${extras#.}]}"
    echo "$whole" >".venv/whole$extras"
}

same() { [[ -f $2 && $1 == "$(<"$2")" ]]; }

debian_packages
case $purpose in
    test | bench) environment .dev ;;
    *) environment "" ;;
esac
