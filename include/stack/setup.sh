#!/bin/sh
# Installs what this checkout needs: system packages, virtual environment, Java libraries, secrets.
# Skips what exists; an interrupted run resumes. Arguments: additional system packages.
set -eu
more=$*
cd "$(dirname "$0")/../.."
home=.adnomaly
stamps=$home/setup
say() { printf '%5s s  %s\n' "$(($(date +%s) - began))" "$1"; }
began=$(date +%s)

missing_packages() {
  command -v java >/dev/null || echo default-jre-headless
  command -v mvn >/dev/null || echo maven
  command -v redis-server >/dev/null || echo redis-server
  ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || echo postgresql
  command -v python3.11 >/dev/null || command -v python3.12 >/dev/null || python3 -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null || echo python3
  [ -x .venv/bin/python ] || "$(python)" -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
}

python() { for p in python3.11 python3.12 python3; do command -v "$p" >/dev/null && "$p" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' && { echo "$p"; return; }; done; echo python3; }

install_packages() {
  packages="$(missing_packages | tr '\n' ' ')$more"
  [ -n "$(echo "$packages" | tr -d ' ')" ] || return 0
  if [ "$(id -u)" = 0 ]; then as=; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as=sudo; else
    echo "error: these system packages are missing: $packages. Install them, then run this again" >&2; exit 1
  fi
  command -v apt-get >/dev/null || { echo "error: these system packages are missing: $packages. Install them with your package manager, then run this again" >&2; exit 1; }
  say "installing system packages: $packages"
  # Keep the packages from starting their servers; the stack starts its own.
  policy=/usr/sbin/policy-rc.d
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' | $as tee $policy >/dev/null; $as chmod +x $policy; trap '$as rm -f $policy' EXIT INT TERM; }
  $as apt-get update -qq
  # shellcheck disable=SC2086
  $as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >$stamps/apt.log 2>&1 || { tail -20 $stamps/apt.log >&2; exit 1; }
  say "system packages installed"
}

stamp() { echo "$stamps/$1.$(cat "$2" | sha256sum | cut -c1-16)"; }

install_python() {
  done=$(stamp python requirements.txt)
  if [ ! -e "$done" ] || [ ! -x .venv/bin/python ]; then
    [ -x .venv/bin/python ] || { say "creating the virtual environment"; "$(python)" -m venv .venv; }
    uv=$(grep -o '^uv==[0-9.]*' requirements.txt)
    [ -x .venv/bin/uv ] || { say "fetching $uv"; .venv/bin/python -m pip install -q --disable-pip-version-check "$uv"; }
    say "installing $(grep -c '==' requirements.txt) Python packages from the lock (2.5 GB; some minutes with a cold cache)"
    .venv/bin/uv pip install -q --system-certs --compile-bytecode --python .venv/bin/python --require-hashes -r requirements.txt
    touch "$done"
    say "Python packages installed"
  fi
  own=$(stamp own pyproject.toml)
  [ -e "$own" ] || { .venv/bin/uv pip install -q --system-certs --python .venv/bin/python --no-deps -e .; touch "$own"; }
}

install_jars() {
  done=$(stamp jars include/stack/pom.xml)
  [ -e "$done" ] && return 0
  for set in kafka flink flink-s3; do
    say "fetching the Java libraries of $set"
    rm -rf "$home/jars/$set"
    mvn -q -B -f include/stack/pom.xml -P "$set" dependency:copy-dependencies -DoutputDirectory="$PWD/$home/jars/$set" -DincludeScope=runtime $( [ "$set" = kafka ] || echo -DexcludeTransitive=true ) >$stamps/mvn.log 2>&1 || { tail -20 $stamps/mvn.log >&2; exit 1; }
  done
  touch "$done"
}

install_secrets() {
  done=$(stamp secrets include/stack/secrets.py)
  [ -e "$done" ] && [ -e "${ADNOMALY_HOME:-$home}/secrets.env" ] && return 0
  .venv/bin/python -m stack secrets
  touch "$done"
}

mkdir -p $stamps
chmod 711 $home
install_packages
install_python
install_jars
install_secrets
