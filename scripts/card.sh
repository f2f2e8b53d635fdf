#!/bin/sh
# Everything that an NVIDIA card must be asked, in three parts of less than nine minutes each:
#
#   scripts/card.sh a|b|c [DIRECTORY]
#
# a: layouts, copies, AdamW over the bus, launches, the cases of every op, matrix products; b: training; c: speed beside
# PyTorch, sanitizers.
# A table comes last; all that was answered is written into DIRECTORY (default: $OUT, or ./card-results) as JSON. It takes
# no network and no Node: it runs in a bundle (npm run bundle), or unpacks the newest one in build/ for the time it takes.
set -u
case $0 in
  */*) here=${0%/*}/.. ;;
  *) here=.. ;;
esac
here=$(CDPATH= cd "$here" && pwd -P) || exit

stop() {
  echo "card.sh: $*" >&2
  exit 1
}

# Whether NVIDIA's driver is where the loader or the addon would find it: unpacking takes seconds.
has_driver() {
  /sbin/ldconfig -p 2>/dev/null | while read -r name _; do [ "$name" != libcuda.so.1 ] || echo yes; done | read -r _ && return
  directories=${LD_LIBRARY_PATH:-}:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:/lib64:/usr/lib64:/lib:/usr/lib
  directories=$directories:/usr/lib/wsl/lib:/usr/local/nvidia/lib64
  (
    IFS=:
    for directory in $directories; do [ ! -e "$directory/libcuda.so.1" ] || exit 0; done
    exit 1
  )
}
has_driver || stop "there is no card to ask: NVIDIA's driver (libcuda.so.1) is not installed"

if [ -x "$here/bin/node" ]; then
  bundle=$here
else
  archive=$(ls -t "$here"/build/tstrain-*-linux-x64.tar.xz 2>/dev/null | head -n 1)
  [ -n "$archive" ] || stop "there is no bundle in $here/build; npm run bundle makes one, on any machine"
  unpacked=$(mktemp -d) || exit
  trap 'rm -rf "$unpacked"' EXIT
  trap 'exit 130' INT TERM HUP
  # Python unpacks where there is no xz.
  tar -xJf "$archive" -C "$unpacked" 2>/dev/null ||
    python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$archive" "$unpacked" ||
    stop "$archive cannot be unpacked: it takes tar with xz, or python3"
  for bundle in "$unpacked"/*; do :; done
fi

# The toolkit's libraries may be in the environment of the Python that is first in the path.
if [ -z "${VIRTUAL_ENV:-}" ] && command -v python3 >/dev/null; then
  VIRTUAL_ENV=$(python3 -c 'import sys; print(sys.prefix)')
  export VIRTUAL_ENV
fi
export LD_LIBRARY_PATH="$bundle/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
"$bundle/bin/node" "$bundle/dist/benchmarks/card/card.js" "$@"
