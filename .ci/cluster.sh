# A cluster for the scripts beside this one, which source it. `start_cluster` builds the server, or takes the one that
# KVORUM_BIN names, and sets KVORUM_URL. It needs nothing but free ports, and ends what it has started with the script.

cluster_folder=
cluster_process=

stop_cluster() {
    if [ -n "$cluster_process" ]; then
        # The nodes end with it: they watch their standard input, which it holds.
        kill -TERM "$cluster_process" 2>/dev/null || true
        wait "$cluster_process" || true
        cluster_process=
    fi
    if [ -n "$cluster_folder" ]; then
        rm -rf "$cluster_folder"
        cluster_folder=
    fi
}

# Builds what the tests build: without them, or of a part of the workspace, dependencies have other features, and all is built anew.
build_all() {
    cargo build --workspace --bins --examples --tests --locked
}

# Reads what the cluster says until it is ready. Fails if it ends before, or says nothing for a minute.
await_cluster() {
    local line
    KVORUM_URL=
    while IFS= read -r -t 60 line <&"$1"; do
        case $line in
            'clients connect to '*) KVORUM_URL=${line#clients connect to } ;;
            'ready in '*) return 0 ;;
        esac
    done
    return 1
}

start_cluster() {
    local program=${KVORUM_BIN:-} attempt base lines
    if [ -z "$program" ]; then
        build_all
        program=${CARGO_TARGET_DIR:-target}/debug/kvorum
    fi
    trap stop_cluster EXIT
    for attempt in 1 2 3 4 5 6 7 8; do
        # Below the ports that systems hand out by themselves. `dev` looks whether they are free before it starts anything.
        base=$((10000 + RANDOM % 20000))
        cluster_folder=$(mktemp -d)
        mkfifo "$cluster_folder/said"
        "$program" dev --no-repl --dir "$cluster_folder/cluster" --base-port "$base" \
            >"$cluster_folder/said" 2>"$cluster_folder/errors" </dev/null &
        cluster_process=$!
        exec {lines}<"$cluster_folder/said"
        if await_cluster "$lines"; then
            # What it says later needs a reader, or it would wait for one.
            cat <&"$lines" >/dev/null &
            exec {lines}<&-
            export KVORUM_URL
            printf 'a cluster at %s\n' "$KVORUM_URL"
            return 0
        fi
        exec {lines}<&-
        if ! grep -q 'is in use' "$cluster_folder/errors"; then
            cat "$cluster_folder/errors" >&2
            return 1
        fi
        stop_cluster
    done
    printf 'no free ports in %d attempts\n' "$attempt" >&2
    return 1
}
