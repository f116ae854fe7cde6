# shellcheck shell=bash disable=SC2016
# For `up` and `down`: which compose there is, and of which files the stack is made. Paths are from the root of the repository.

# find_compose OFFLINE: sets the array `compose`. OFFLINE is empty where images are pulled.
find_compose() {
    if ! docker info >/dev/null 2>&1; then
        printf 'no container engine answers: is it running, and may you use it?\n' >&2
        exit 1
    fi
    if docker compose version >/dev/null 2>&1; then
        compose=(docker compose)
    elif command -v docker-compose >/dev/null; then
        compose=(docker-compose)
    else
        printf 'there is neither `docker compose` nor `docker-compose` (1.29 or newer)\n' >&2
        exit 1
    fi
    compose+=(-p "${KVORUM_PROJECT:-kvorum}" -f docker/compose.yaml -f docker/compose.full.yaml)
    if [ -n "$1" ]; then
        compose+=(-f docker/compose.offline.yaml)
    fi
    # One file more: for settings of one's own.
    if [ -n "${KVORUM_COMPOSE_FILE:-}" ]; then
        compose+=(-f "$KVORUM_COMPOSE_FILE")
    fi
}
