#!/usr/bin/env bash
# A run on a Cloud TPU, on one VM or on a slice of many hosts (docs/cloud_tpu.md):
#
#   export NAME=run1 ZONE=us-west4-a TYPE=v5litepod-16 SERVICE_ACCOUNT=ADDRESS SPOT=1
#   docs/cloud/tpu.sh run COMMAND...   requests the TPU, installs this clone's HEAD on every host, starts COMMAND there, waits for
#                                      its end and deletes the TPU (KEEP=1 leaves it); ends with COMMAND's exit code
#   docs/cloud/tpu.sh log              what host 0 says, live
#   docs/cloud/tpu.sh stop             lets COMMAND save and end
#   docs/cloud/tpu.sh delete           deletes the TPU, whatever it does
#
# A TPU that is taken away is requested again, and COMMAND started again, as it is on exit code 75. Where a run is under way on
# the TPU, `run` waits for that one.
set -euo pipefail

POLL=${POLL:-30} # seconds between two looks
UNIT=p10k_jax    # of systemd, on the hosts

say() { echo "$(date +%T) tpu.sh: $*" >&2; }

fail() { # code, message
  say "$2"
  exit "$1"
}

for setting in NAME ZONE; do
  [ -n "${!setting:-}" ] || fail 2 "set $setting"
done

requests() { gcloud compute tpus queued-resources "$@" --zone="$ZONE" --quiet; }

on_hosts() { # which, command
  gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --quiet --worker="$1" --command="$2"
}

state() { # of the request: ACTIVE, SUSPENDED, ...; empty: there is none
  requests list --filter="name~/$NAME\$" --format='value(state.state)' || echo UNKNOWN
}

request() {
  [ -n "${SERVICE_ACCOUNT:-}" ] || fail 2 "set SERVICE_ACCOUNT to what docs/cloud/project.sh printed"
  local type="${TYPE:-v5litepod-8}" runtime spot=()
  case $type in
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    v4-*) runtime=tpu-ubuntu2204-base ;;
    *) fail 2 "TYPE=$type is none of v4-N, v5litepod-N, v5p-N, v6e-N" ;;
  esac
  [ -z "${SPOT:-}" ] || spot=(--spot)
  say "requesting $type as $NAME in $ZONE"
  requests create "$NAME" --node-id="$NAME" --accelerator-type="$type" --runtime-version="$runtime" \
    --service-account="$SERVICE_ACCOUNT" "${spot[@]}"
}

delete() { [ -z "$(state)" ] || requests delete "$NAME" --force; }

await_slice() { # until it is there
  local now before=
  while true; do
    now=$(state)
    [ "$now" = "$before" ] || say "$NAME is ${now:-not requested}"
    before=$now
    case $now in
      ACTIVE) return ;;
      '') request ;;
      SUSPENDED) delete ;;
      FAILED)
        requests describe "$NAME" >&2
        fail 1 "the request failed; docs/cloud/tpu.sh delete clears it away"
        ;;
    esac
    sleep "$POLL"
  done
}

install() {
  on_hosts all 'rm -rf p10k_jax && mkdir p10k_jax' &&
    gcloud compute tpus tpu-vm scp "$files/p10k_jax.tar.gz" "$files/command.sh" "$NAME:p10k_jax/" --zone="$ZONE" --quiet \
      --worker=all &&
    on_hosts all 'cd p10k_jax && tar -xzf p10k_jax.tar.gz && docs/cloud/install.sh tpu,gcs,hub'
}

# As a unit of systemd it outlives this connection, is there only once, and is told to end when the VM is shut down.
start() {
  on_hosts all "sudo systemctl stop $UNIT; sudo systemctl reset-failed $UNIT; sudo systemd-run --unit=$UNIT --uid=\$(id -u) \
    --working-directory=\$HOME/p10k_jax --setenv=HOME=\$HOME --property=RemainAfterExit=yes --property=TimeoutStopSec=90 \
    bash command.sh"
}

hosts() { # a line a host: 'host running 0', 'host exited 0', 'host failed 75', 'host dead 0' where there is no such unit
  on_hosts all "echo host \$(systemctl show $UNIT --property=SubState --value) \
    \$(systemctl show $UNIT --property=ExecMainStatus --value)" | grep '^host '
}

await_end() { # sets `ended` to the exit code, 75 also where the TPU or a host went away
  local all
  ended=75
  while true; do
    if all=$(hosts); then
      if ! grep -q '^host running' <<<"$all"; then
        # Where a host failed, the others lose it: with 75, or signal 6. Its own code is the one that tells. All with signal 6:
        # none was lost.
        ended=$(awk '$2 == "failed" { if ($3 == 75 || $3 == 6) { soft = 75 } else { hard = $3 } if ($3 != 6) { other = 1 } }
          $2 != "failed" { other = 1 } $2 == "dead" { soft = 75 }
          END { print hard ? hard : soft && !other ? 134 : soft + 0 }' <<<"$all")
        return
      fi
    else
      case $(state) in
        ACTIVE | UNKNOWN) say "not all hosts of $NAME answer: trying again" ;; # the connection, or a host that restarts
        *) return ;;
      esac
    fi
    sleep "$POLL"
  done
}

run() {
  [ $# -gt 0 ] || fail 2 "run what? docs/cloud/tpu.sh run python -m p10k_jax.train ..."
  local clone all
  clone=$(git -C "$(dirname "$0")" rev-parse --show-toplevel) || fail 2 "the scripts do not lie in a git clone"
  git -C "$clone" diff --quiet HEAD || say "changes that are not committed are not taken along"
  files=$(mktemp -d)
  trap 'rm -rf "$files"' EXIT
  git -C "$clone" archive --format=tar.gz --output="$files/p10k_jax.tar.gz" HEAD
  { echo 'source .venv/bin/activate' && printf 'exec' && printf ' %q' "$@" && echo; } >"$files/command.sh"
  while true; do
    await_slice
    all=$(hosts || true)
    if grep -q '^host running' <<<"$all"; then
      say "a run is under way on $NAME: waiting for its end"
    elif install && start; then
      say "started: docs/cloud/tpu.sh log shows what host 0 says"
    else
      [ "$(state)" != ACTIVE ] || fail 1 "could not install and start on $NAME, which is there and costs: see above, then run again or delete"
      continue
    fi
    await_end
    [ "$ended" = 75 ] || break
    say "stopped with exit code 75, or taken away: going on"
  done
  say "ended with exit code $ended"
  [ -n "${KEEP:-}" ] || delete
  exit "$ended"
}

case ${1:-} in
  run) run "${@:2}" ;;
  log) on_hosts 0 "sudo journalctl --unit=$UNIT --output=cat --lines=100 --follow" ;;
  stop) on_hosts all "sudo systemctl kill --signal=SIGINT $UNIT" ;;
  delete) delete ;;
  *) fail 2 "say run COMMAND..., log, stop or delete" ;;
esac
