#!/usr/bin/env bash
# Makes container images out of Debian packages, for demos and tests: no registry is needed.
# Usage: scripts/images.sh STOA DATA_DIR    imports `busybox` (busybox-static) and `web` (mini-httpd) into DATA_DIR's image store
set -euo pipefail
stoa=$1
data=$2
root=$(cd "$(dirname "$0")/.." && pwd)
cache=$root/.stoa/images
mkdir -p "$cache"

fetch() { # package: its unpacked files in $cache/pkg/<package>
  local dir=$cache/pkg/$1
  [ -d "$dir" ] && return
  mkdir -p "$dir.tmp"
  (cd "$dir.tmp" && apt-get download -qq "$1" 2>/dev/null && dpkg-deb -x ./*.deb . && rm -f ./*.deb)
  mv "$dir.tmp" "$dir"
}

base() { # rootfs: accounts and the directories that programs expect
  mkdir -p "$1"/{bin,etc,tmp,root,proc,sys,dev,var/run,var/tmp,home}
  chmod 1777 "$1/tmp" "$1/var/tmp"
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$1/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' > "$1/etc/group"
}

busybox_into() { # rootfs
  install -m 755 /bin/busybox "$1/bin/busybox" 2>/dev/null || install -m 755 /usr/bin/busybox "$1/bin/busybox"
  local applet
  for applet in $("$1/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$1/bin/$applet"
  done
}

if [ ! -d "$cache/busybox" ]; then
  base "$cache/busybox.tmp"
  busybox_into "$cache/busybox.tmp"
  printf '{"cmd": ["sh"], "env": ["PATH=/bin"]}\n' > "$cache/busybox.json"
  mv "$cache/busybox.tmp" "$cache/busybox"
fi

if [ ! -d "$cache/web" ]; then
  for package in mini-httpd libssl3 libcrypt1; do fetch "$package"; done
  tmp=$cache/web.tmp
  base "$tmp"
  busybox_into "$tmp"
  mkdir -p "$tmp/www" "$tmp/usr/sbin"
  install -m 755 "$cache/pkg/mini-httpd/usr/sbin/mini_httpd" "$tmp/usr/sbin/mini_httpd"
  # The program's own libraries, at the paths where its loader looks.
  libraries=$(find "$cache/pkg" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
  LD_LIBRARY_PATH=$libraries ldd "$tmp/usr/sbin/mini_httpd" | grep -oE '/[^ ]+' | while read -r lib; do
    in_image=/${lib#"$cache"/pkg/*/}
    mkdir -p "$tmp$(dirname "$in_image")"
    cp -L "$lib" "$tmp$in_image"
  done
  printf 'hello from stoa\n' > "$tmp/www/index.html"
  printf '{"entrypoint": ["/usr/sbin/mini_httpd", "-D", "-p", "8080", "-d", "/www", "-u", "root", "-i", "/tmp/pid"], "env": ["PATH=/bin:/usr/sbin"], "exposed_ports": ["8080/tcp"]}\n' > "$cache/web.json"
  mv "$tmp" "$cache/web"
fi

for name in busybox web; do
  "$stoa" image build "$cache/$name" --config "$cache/$name.json" --tag "$name:latest" --data-dir "$data" >&2
done
