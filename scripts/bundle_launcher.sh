#!/bin/sh
# Starts tstrain out of its bundle, wherever that was unpacked and by whatever link it is called.
case $0 in
  */*) self=$0 ;;
  *) self=./$0 ;;
esac
while [ -h "$self" ]; do
  target=$(readlink "$self")
  case $target in
    /*) self=$target ;;
    *) self=${self%/*}/$target ;;
  esac
done
here=$(CDPATH= cd "${self%/*}" && pwd -P) || exit
# What it says to type next begins with the words that were typed.
export TSTRAIN_COMMAND="$0"
export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$here/bin/node" "$here/dist/bin/tstrain.js" "$@"
