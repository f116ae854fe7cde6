"""What each client library of Redis does against Kvorum. Run by .ci/redis-clients, which says where the doors are.

Every check takes keys of its own, looks at what came back, and raises if it is not what Redis gives.
"""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
import traceback

STANDALONE = int(os.environ["KVORUM_STANDALONE"])
OTHER = int(os.environ["KVORUM_OTHER"])
CLUSTER = int(os.environ["KVORUM_CLUSTER"])
IS_ONE_SHARD = os.environ["KVORUM_SHARDS"] == "1"
HOST = "127.0.0.1"
CELERY_WITHIN_S = 10
CLI_WITHIN_S = 60
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"found {found!r}, expected {expected!r}")


def fails(kind, work, words):
    """`work` must raise an error of this kind that holds these words."""
    try:
        found = work()
    except kind as error:
        if words not in str(error):
            raise AssertionError(f"the error {error!r} does not say {words!r}") from error
        return
    raise AssertionError(f"no error: {found!r}")


def strings(client, prefix):
    """The same for each library that follows redis-py."""
    key = f"{prefix}:a"
    client.delete(key)
    equal(client.set(key, "1", nx=True), True)
    equal(client.set(key, "2", nx=True), None)
    equal(client.get(key), b"1")
    equal(client.incrby(key, 41), 42)
    equal(client.append(key, "!"), 3)
    equal(client.getrange(key, 0, 1), b"42")
    equal(client.setrange(key, 3, "?"), 4)
    equal(client.strlen(key), 4)
    equal(client.set(key, "3", get=True), b"42!?")
    equal(client.incrbyfloat(key, "0.5"), 3.5)
    equal(client.expire(key, 100), True)
    equal(client.expire(key, 200, nx=True), False)
    equal(90 < client.ttl(key) <= 100, True)
    equal(client.persist(key), True)
    equal(client.pttl(key), -1)
    equal(client.getex(key, px=50_000), b"3.5")
    equal(client.getdel(key), b"3.5")
    equal(client.exists(key), 0)
    equal(client.get(key), None)
    equal(client.setbit(key, 7, 1), 0)
    equal((client.get(key), client.bitcount(key)), (b"\x01", 1))
    binary = bytes(range(256)) * 4_096
    client.set(key, binary)
    equal(client.get(key), binary)
    equal(client.type(key), b"string")
    client.delete(key)


def many(client, prefix):
    """Keys of several shards in one command, and pipelines."""
    pairs = {f"{prefix}:{number}": f"v{number}".encode() for number in range(500)}
    equal(client.mset(pairs), True)
    equal(client.mget(list(pairs)), list(pairs.values()))
    with client.pipeline(transaction=False) as pipeline:
        for key in pairs:
            pipeline.get(key).incr(f"{key}:n")
        replies = pipeline.execute()
    equal(replies[0::2], list(pairs.values()))
    equal(replies[1::2], [1] * len(pairs))
    found = set(client.scan_iter(match=f"{prefix}:*", count=100))
    equal(found, {name.encode() for key in pairs for name in (key, f"{key}:n")})
    equal(client.delete(*found), 2 * len(pairs))


def transactions(client, prefix, watch_error):
    """MULTI and WATCH, with keys of one shard."""
    a, b = f"{{{prefix}}}:a", f"{{{prefix}}}:b"
    client.delete(a, b)
    with client.pipeline() as pipeline:
        equal(pipeline.set(a, 1).incr(a).get(a).set(b, "text").execute(), [True, 2, b"2", True])
    with client.pipeline() as pipeline:
        replies = pipeline.incr(b).incr(a).execute(raise_on_error=False)
    equal((type(replies[0]).__name__, replies[1]), ("ResponseError", 3))
    with client.pipeline() as pipeline:
        pipeline.watch(a)
        before = int(pipeline.get(a))
        client.set(a, 10)
        pipeline.multi()
        pipeline.set(a, before + 1)
        fails(watch_error, pipeline.execute, "")
    equal(client.get(a), b"10")
    equal(client.rename(a, b), True)
    equal((client.get(b), client.exists(a)), (b"10", 0))
    client.delete(b)


@check
def redis_py():
    import redis

    for protocol in (2, 3):
        with redis.Redis(HOST, STANDALONE, protocol=protocol, client_name="check") as client:
            prefix = f"py{protocol}"
            equal(client.ping(), True)
            equal(client.client_getname() in ("check", b"check"), True)
            equal(client.info("server")["server_name"], "kvorum")
            equal(client.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"})
            strings(client, prefix)
            many(client, prefix)
            transactions(client, prefix, redis.WatchError)
            fails(redis.ResponseError, lambda: client.lpush("list", 1), "unknown command")
            if not IS_ONE_SHARD:
                pipeline = client.pipeline().set(f"{prefix}:x", 1).set(f"{prefix}:y", 2).set(f"{prefix}:z", 3)
                fails(redis.ResponseError, pipeline.execute, "shard")
            # What one node has acknowledged, another one knows.
            with redis.Redis(HOST, OTHER, protocol=protocol) as other:
                for number in range(100):
                    client.set(f"{prefix}:n", number)
                    equal(other.get(f"{prefix}:n"), str(number).encode())


@check
def redis_py_asyncio():
    import redis.asyncio

    async def run():
        async with redis.asyncio.Redis(host=HOST, port=STANDALONE) as client:
            keys = [f"aio:{number}" for number in range(50)]
            equal(await asyncio.gather(*(client.set(key, key) for key in keys)), [True] * len(keys))
            equal(await client.mget(keys), [key.encode() for key in keys])
            async with client.pipeline(transaction=True) as pipeline:
                equal(await pipeline.set("{aio}", 1).incr("{aio}").execute(), [True, 2])
            equal(await client.delete("{aio}", *keys), len(keys) + 1)

    asyncio.run(run())


@check
def redis_py_cluster():
    import redis

    with redis.RedisCluster(HOST, CLUSTER, require_full_coverage=True) as client:
        equal(len(client.get_primaries()), 1 if IS_ONE_SHARD else 3)
        strings(client, "cluster")
        for number in range(500):
            client.set(f"cluster:{number}", number)
        equal(client.mget_nonatomic([f"cluster:{number}" for number in range(500)]), [str(n).encode() for n in range(500)])
        with client.pipeline() as pipeline:
            for number in range(500):
                pipeline.get(f"cluster:{number}")
            equal(pipeline.execute(), [str(number).encode() for number in range(500)])
        equal(len(set(client.scan_iter(match="cluster:*"))), 500)
        equal(client.delete(*(f"cluster:{number}" for number in range(500))), 500)
        equal(client.cluster_keyslot("{user1000}.following"), 3443)


@check
def hiredis_reader():
    import hiredis

    with socket.create_connection((HOST, STANDALONE)) as connection:
        connection.settimeout(10)
        reader = hiredis.Reader()
        commands = [("SET", "hi", "redis"), ("GET", "hi"), ("GET", "nothing"), ("DEL", "hi"), ("NONSENSE", "x")]
        connection.sendall(b"".join(hiredis.pack_command(command) for command in commands))
        replies = []
        while len(replies) < len(commands):
            reader.feed(connection.recv(65_536))
            while (reply := reader.gets()) is not False:
                replies.append(reply)
        equal(replies[:4], [b"OK", b"redis", None, 1])
        equal(str(replies[4]), "ERR unknown command 'NONSENSE', with args beginning with: 'x' ")


@check
def valkey_py():
    import valkey

    with valkey.Valkey(HOST, STANDALONE) as client:
        strings(client, "valkey")
        many(client, "valkey")
        transactions(client, "valkey", valkey.WatchError)
    with valkey.ValkeyCluster(HOST, CLUSTER, require_full_coverage=True) as client:
        equal(client.set("valkey", 1), True)
        equal(client.get("valkey"), b"1")


@check
def coredis():
    from coredis import Redis

    async def run():
        async with Redis(host=HOST, port=STANDALONE, decode_responses=True) as client:
            equal(await client.set("core", "dis"), True)
            equal(await client.get("core"), "dis")
            equal(await client.incrby("core:n", 5), 5)
            equal(await client.mget(["core", "core:n", "core:none"]), ("dis", "5", None))
            equal(await client.delete(["core", "core:n"]), 2)

    asyncio.run(run())


@check
def django_cache():
    from django.conf import settings
    from django.core.cache import caches

    backend = "django.core.cache.backends.redis.RedisCache"
    settings.configure(CACHES={"default": {"BACKEND": backend, "LOCATION": f"redis://{HOST}:{STANDALONE}", "KEY_PREFIX": "{dj}"}})
    cache = caches["default"]
    equal(cache.add("a", [1, 2], timeout=60), True)
    equal(cache.add("a", 0), False)
    equal(cache.get("a"), [1, 2])
    # One MULTI of an MSET and an EXPIRE for each key: they share a shard by the prefix.
    equal(cache.set_many({f"k{number}": number for number in range(50)}, timeout=30), [])
    equal(cache.get_many([f"k{number}" for number in range(50)]), {f"k{number}": number for number in range(50)})
    equal(cache.incr("k1", 10), 11)
    equal(cache.touch("k1", 90), True)
    equal(cache.has_key("k1"), True)
    equal(cache.delete("k1"), True)
    equal(cache.get_or_set("k1", lambda: "made"), "made")
    cache.delete_many([f"k{number}" for number in range(50)])
    if IS_ONE_SHARD:
        cache.clear()
        equal(cache.get("a"), None)


@check
def celery_results():
    """Celery keeps its results here. A result that nobody has yet is asked for again and again: nobody can subscribe to it."""
    from celery import Celery, group
    from celery.contrib.testing.worker import start_worker
    from redis import ResponseError

    app = Celery("check", broker="memory://", backend=f"redis://{HOST}:{STANDALONE}/0")
    app.conf.update(result_expires=600, broker_transport_options={"polling_interval": 0.02})
    release = threading.Event()

    @app.task
    def add(left, right):
        return left + right

    @app.task
    def fail():
        raise ValueError("as it should")

    @app.task
    def wait():
        return release.wait(CELERY_WITHIN_S)

    def polled(result):
        deadline = time.monotonic() + CELERY_WITHIN_S
        while not result.ready():
            if time.monotonic() > deadline:
                raise AssertionError(f"{result} is not ready")
            time.sleep(0.01)
        return result

    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="CRITICAL"):
        equal(polled(add.delay(4, 4)).get(), 8)
        equal(str(polled(fail.delay()).result), "as it should")
        results = polled(group(add.s(number, number) for number in range(10)).apply_async())
        equal(results.get(), [2 * number for number in range(10)])
        waiting = wait.delay()
        equal(waiting.state, "PENDING")
        fails(ResponseError, lambda: waiting.get(timeout=CELERY_WITHIN_S), "unknown command 'SUBSCRIBE'")
        release.set()
        equal(polled(waiting).get(), True)
    # What one node has stored, another one knows.
    elsewhere = Celery("elsewhere", backend=f"redis://{HOST}:{OTHER}/0")
    stored = app.backend.store_result("check-task", {"a": [1]}, "SUCCESS")
    equal((stored, elsewhere.AsyncResult("check-task").result), ({"a": [1]}, {"a": [1]}))
    expires = app.backend.client.ttl(app.backend.get_key_for_task("check-task"))
    equal(590 < expires <= 600, True)
    elsewhere.AsyncResult("check-task").forget()
    equal(app.AsyncResult("check-task").state, "PENDING")


@check
def expiry():
    import redis

    with redis.Redis(HOST, STANDALONE) as client, redis.Redis(HOST, OTHER) as other:
        keys = [f"px:{number}" for number in range(1_000)]
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.set(key, "x", px=200)
            began = time.monotonic()
            pipeline.execute()
            written = time.monotonic()
        found = client.mget(keys)
        # The first of them may have been there since the pipeline began.
        if time.monotonic() - began < 0.2:
            equal(found.count(None), 0)
        while time.monotonic() < written + 0.205:
            time.sleep(0.001)
        equal((client.mget(keys), other.mget(keys)), ([None] * len(keys),) * 2)


def cli(*arguments, port=STANDALONE, **options):
    """What redis-cli prints."""
    options.setdefault("timeout", CLI_WITHIN_S)
    done = subprocess.run(["redis-cli", "-p", str(port), *arguments], check=True, capture_output=True, **options)
    return done.stdout


def holds(text, *words):
    for word in words:
        if word not in text:
            raise AssertionError(f"{word!r} is not in {text!r}")


@check
def redis_cli():
    binary = bytes(range(256)) * 32_768
    pipe = b"".join(b"SET cli:%d %s\r\n" % (number, b"x" * (1 + number % 499)) for number in range(1, 1_001))
    for version in ("-2", "-3"):
        equal(cli(version, "FLUSHALL"), b"OK\n")
        equal(cli(version, "-x", "SET", "cli", input=binary), b"OK\n")
        equal(cli(version, "GET", "cli") == binary + b"\n", True)
        equal(cli(version, "DEL", "cli"), b"1\n")
        holds(cli(version, "--pipe", input=pipe), b"errors: 0, replies: 1000")
        equal(len(set(cli(version, "--scan").split())), 1_000)
        equal(sorted(cli(version, "--scan", "--pattern", "cli:99[89]").split()), [b"cli:998", b"cli:999"])
        sizes = cli(version, "--bigkeys")
        holds(sizes, b"Sampled 1000 keys", b"has 499 bytes", b"1000 strings with 249505 bytes (100.00% of keys")
        holds(cli(version, "--memkeys"), b"Sampled 1000 keys", b"1000 strings with ")
        holds(cli(version, "INFO"), b"server_name:kvorum", b"redis_version:7.")
    holds(cli("HELP", "EXPIRE"), b"key seconds [NX|XX|GT|LT]", b"Lets a key expire")
    equal(len(cli("--raw", "--latency", "-i", "1").split()), 4)
    # It runs until it is killed, and keeps back what it prints into a pipe.
    told = subprocess.run(
        ["timeout", "2", "stdbuf", "-oL", "redis-cli", "-p", str(STANDALONE), "--stat", "-i", "0.2"],
        check=False,
        capture_output=True,
        timeout=CLI_WITHIN_S,
    )
    lines = told.stdout.splitlines()
    equal((len(lines) >= 5, lines[2].split()[0]), (True, b"1000"))
    equal(cli("FLUSHALL"), b"OK\n")


@check
def redis_cli_of_a_cluster():
    for number in range(40):
        equal(cli("-c", "SET", f"cli:{number}", str(number), port=CLUSTER), b"OK\n")
        equal(cli("-c", "-3", "GET", f"cli:{number}", port=CLUSTER), b"%d\n" % number)
    checked = cli("--cluster", "check", f"{HOST}:{CLUSTER}")
    holds(checked, b"[OK] All nodes agree about slots configuration.", b"[OK] All 16384 slots covered.")
    holds(cli("--cluster", "info", f"{HOST}:{CLUSTER}"), b" keys in 3 masters.")
    holds(cli("--cluster", "call", f"{HOST}:{CLUSTER}", "PING"), *(f"{HOST}:{CLUSTER + node}: PONG".encode() for node in range(3)))
    equal(cli("DEL", *(f"cli:{number}" for number in range(40))), b"40\n")


@check
def inline_commands():
    with socket.create_connection((HOST, STANDALONE)) as connection:
        connection.settimeout(10)
        connection.sendall(b'PING\r\nset "inline key" \'with spaces\'\r\nget "inline key"\r\nQUIT\r\n')
        received = b""
        while part := connection.recv(4_096):
            received += part
        equal(received, b"+PONG\r\n+OK\r\n$11\r\nwith spaces\r\n+OK\r\n")


def main():
    failed = []
    for function in CHECKS:
        began = time.monotonic()
        try:
            function()
        except Exception:
            traceback.print_exc()
            failed.append(function.__name__)
        print(f"{function.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


main()
