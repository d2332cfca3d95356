#!/bin/sh
# Stands in for a runtime: its containers are shells that run BUNDLE/program.
while :; do
  case $1 in
    --root | --log | --log-format) name=${1#--}; [ "$name" = log-format ] || eval "$name=\$2"; shift 2 ;;
    --*) shift ;;
    *) break ;;
  esac
done
verb=$1 bundle='' pids='' process=''
shift
while [ $# -gt 1 ]; do
  case $1 in
    --bundle) bundle=$2; shift 2 ;;
    --pid-file) pids=$2; shift 2 ;;
    --process) process=$2; shift 2 ;;
    --all | --force | --detach | --resources=-) shift ;;
    *) break ;;
  esac
done
id=$1 state=$root/$1
fail() { printf '{"level":"error","msg":"%s","time":"t"}\n' "$1" >> "$log"; exit 1; }
# PROGRAM: not as a child of this shell, which would collect it if it ended before we do
launch() {
  rm -f "$pids" # of an earlier container
  setsid --fork /bin/sh -c 'echo $$ > "$1"; exec /bin/sh "$2"' sh "$pids" "$1"
  until [ -s "$pids" ]; do :; done
}
case $verb in
  create)
    [ ! -e "$bundle/fail" ] || fail "$(cat "$bundle/fail")"
    [ ! -e "$bundle/hang" ] || { echo $$ > "$bundle/hanging"; exec sleep 1000; }
    mkdir -p "$state"
    mkfifo "$state/start"
    { echo "read go < '$state/start'"; cat "$bundle/program"; } > "$state/program"
    launch "$state/program"
    cp "$pids" "$state/pid" ;;
  start) echo go > "$state/start" ;;
  exec)
    # the shim removes it when we are done
    cp "$process" "$state/exec-$$"
    launch "$state/exec-$$" ;;
  kill) kill -s "$2" "$(cat "$state/pid")" 2> /dev/null || fail "container not running" ;;
  delete)
    [ -d "$state" ] || fail "container does not exist"
    kill -9 "$(cat "$state/pid")" 2> /dev/null
    rm -r "$state" ;;
  update) cat > "$root/../../update" ;;
esac
exit 0
