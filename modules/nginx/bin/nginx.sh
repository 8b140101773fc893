# Read by the scripts: where this module's nginx keeps its files, and which processes are its own. It shares nothing
# with the service nginx of the distribution but the program.

mkdir -p "$SAFEUSERVAR/nginx" # start_both says so when this fails
work=$(cd "$SAFEUSERVAR/nginx" && pwd -P)
PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin
nginx=$(command -v nginx)

# The ids of our nginx's processes, workers included. A pid file would not do: after a power cut it names some other
# process, and it says nothing of workers that outlived their master. Ours run nginx's program in our folder.
ours() {
    for each in /proc/[0-9]*; do
        [ "$(readlink "$each/cwd")" = "$work" ] || continue
        case $(readlink "$each/exe") in
            */nginx | */nginx\ "(deleted)") echo "${each#/proc/}" ;;
        esac
    done
}

# The master of the workers, if it runs: only it takes orders.
master() {
    read -r main 2>/dev/null <"$work/nginx.pid" && ours | grep -x -- "$main"
}

# nginx with our configuration. It is started in our folder: that is how it is known again.
run() {
    cd "$work" && "$nginx" -p "$work/" -c "$work/nginx.conf" "$@" 2>&1
}

# Waits until none of them is left: gone SECONDS.
gone() {
    tenths=$(($1 * 10))
    while [ -n "$(ours)" ]; do
        [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1))
        sleep 0.1
    done
}

# Each id by itself: one that has ended meanwhile must not keep the others from being killed.
kill_all() {
    for each in $(ours); do
        kill -9 "$each" 2>/dev/null
    done
    gone 5 || fail "these nginx processes do not end: $(ours | tr '\n' ' ')"
}

fail() {
    echo "$1" >&2
    "$SAFE/safekit" printe "$1"
    exit 1
}
