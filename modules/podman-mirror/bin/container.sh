# Read by this module's scripts: what is done with the container. The file is the same in the farm and in the mirror form.
#
# PROGRAM is podman or docker, or the path of a program that takes the same words. The container has the module's name,
# so that a server knows its own again after a power cut; no restart policy starts it but the module.

container=safekit-$SAFEMODULE
[ "$COMMAND" != none ] || COMMAND=
[ "$OPTIONS" != none ] || OPTIONS=
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

fail() {
    echo "$1" >&2
    "$SAFE/safekit" printe "$1"
    exit 1
}

# Says on stderr why this server cannot run the container; it changes nothing.
check_container() {
    command -v "$PROGRAM" >/dev/null || {
        echo "$1: $PROGRAM is not installed -> apt-get install podman, or set PROGRAM" >&2
        return 1
    }
    # A start that fetches an image waits for a registry, which may be what has failed.
    "$PROGRAM" image inspect "$IMAGE" >/dev/null 2>&1 || {
        echo "$1: the image $IMAGE is not on this server -> $PROGRAM pull $IMAGE" >&2
        return 1
    }
}

running() {
    [ "$("$PROGRAM" container inspect --format '{{.State.Running}}' "$container" 2>/dev/null)" = true ]
}

# Starts it anew, unless it runs: start_container SCRIPT [OPTION]...
start_container() {
    script=$1
    shift
    said=$(check_container "$script" 2>&1) || fail "$said"
    if running; then
        echo "the container runs already"
        return
    fi
    # What a power cut has left has the name; its writable layer is not data.
    "$PROGRAM" rm --force "$container" >/dev/null 2>&1
    # OPTIONS and COMMAND are several words each. Only podman knows --replace and the like: they are not used.
    # shellcheck disable=SC2086
    said=$("$PROGRAM" run --detach --name "$container" --network "$NETWORK" "$@" $OPTIONS "$IMAGE" $COMMAND 2>&1) ||
        fail "$script: $PROGRAM does not start the container: $(echo "$said" | tail -n 1)"
    # A program that refuses its configuration ends at once.
    sleep 1
    running || fail "$script: the container has ended: $("$PROGRAM" logs --tail 1 "$container" 2>&1)"
    echo "the container $container runs"
}

# SIGTERM, and after STOP_SECONDS SIGKILL; then it is removed. It succeeds when there is none.
stop_container() {
    "$PROGRAM" container inspect "$container" >/dev/null 2>&1 || return 0
    "$PROGRAM" stop --time "$STOP_SECONDS" "$container" >/dev/null || return 1
    "$PROGRAM" rm --force "$container" >/dev/null
}

kill_container() {
    command -v "$PROGRAM" >/dev/null || return 0
    "$PROGRAM" kill "$container" >/dev/null 2>&1
    "$PROGRAM" rm --force "$container" >/dev/null 2>&1
    ! "$PROGRAM" container inspect "$container" >/dev/null 2>&1 || fail "the container $container cannot be removed"
}
