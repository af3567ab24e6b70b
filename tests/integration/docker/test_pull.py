"""Pulling an image: the real engine, and a registry on the loopback that stands in for Docker Hub and private ones."""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from elefast.errors import ConfigurationError, ElefastError, ServerUnavailableError
from elefast.providers.docker import pull
from elefast.providers.docker.pull import PullDisplay, ensure_image
from elefast.providers.docker.pull_errors import Refusal, classify, registry_of
from elefast.runtime import terminal
from tests.integration.docker.docker_support import engine_client, skip_or_fail, where_engine_is
from tests.integration.docker.registry import Registry, Upset, answer, cut_off, layer, serve
from tests.integration.providers.provider_support import until

if TYPE_CHECKING:
    from docker import DockerClient

NO_WAIT = (0.0, 0.0, 0.0)


@pytest.fixture(autouse=True)
def _captured() -> Generator[None]:
    """What is pulled in this process does not show among the dots of this run."""
    end = terminal.register_capture(None)
    yield
    end()


@pytest.fixture(scope="session")
def reached(docker_client: DockerClient) -> None:
    """The engine's loopback is ours: not so in the machine of Docker Desktop, nor with an engine elsewhere."""
    from docker.errors import APIError

    with serve() as registry:
        registry.add("team/reached:1", [layer("one")])
        reference = f"{registry.address}/team/reached:1"
        try:
            docker_client.images.pull(reference)
        except APIError as error:
            why = str(error.explanation or error)
        else:
            docker_client.api.remove_image(reference)
            return
    skip_or_fail(f"the engine does not reach a registry on this machine's loopback: {why}")


@pytest.fixture
def registry(docker_client: DockerClient, reached: None) -> Generator[Registry]:
    """A registry with `team/thing:1` and `:latest`; what was pulled from it is removed afterwards."""
    with serve() as registry:
        registry.add("team/thing:1", [layer("one"), layer("two", 200_000)])
        registry.add("team/thing:latest", [layer("newest")])
        try:
            yield registry
        finally:
            for image in pulled_from(docker_client, registry):
                docker_client.api.remove_image(image, force=True)
    assert not pulled_from(docker_client, registry)


def pulled_from(client: DockerClient, registry: Registry) -> set[str]:
    """The ids of the images here that came from a registry."""
    return {
        image["Id"]
        for image in client.api.images()
        for name in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ()))
        if name.startswith(registry.address)
    }


# -- what is pulled, and when ---------------------------------------------------------------------------------------


def test_what_is_missing_is_pulled_once(docker_client: DockerClient, registry: Registry) -> None:
    """The second time nobody is asked."""
    reference = f"{registry.address}/team/thing:1"
    image = ensure_image(docker_client, reference)
    assert image.tags == [reference]
    asked = registry.manifests_asked()
    assert asked
    assert ensure_image(docker_client, reference).id == image.id
    assert ensure_image(docker_client, image.id).id == image.id
    assert ensure_image(docker_client, reference, policy="never").id == image.id
    assert registry.manifests_asked() == asked


def test_always_takes_what_is_new(docker_client: DockerClient, registry: Registry) -> None:
    """A tag that moved is followed."""
    reference = f"{registry.address}/team/thing:1"
    before = ensure_image(docker_client, reference, policy="always")
    registry.add("team/thing:1", [layer("another")])
    assert ensure_image(docker_client, reference).id == before.id
    after = ensure_image(docker_client, reference, policy="always")
    assert after.id != before.id
    docker_client.api.remove_image(before.id, force=True)  # it has lost its name, by which it would be found


def test_every_form_of_a_reference(docker_client: DockerClient, registry: Registry) -> None:
    """A registry with a port, no tag, a digest, a tag and a digest."""
    digest = registry.add("team/pinned:7", [layer("pinned")])
    latest = ensure_image(docker_client, f"{registry.address}/team/thing")
    assert latest.tags == [f"{registry.address}/team/thing:latest"]
    pinned = ensure_image(docker_client, f"{registry.address}/team/pinned@{digest}")
    assert pinned.attrs["RepoDigests"] == [f"{registry.address}/team/pinned@{digest}"]
    asked = registry.manifests_asked()
    assert ensure_image(docker_client, f"{registry.address}/team/pinned:other@{digest}").id == pinned.id
    assert registry.manifests_asked() == asked


def test_never_pulls_nothing(docker_client: DockerClient, registry: Registry) -> None:
    """The error has the command that would."""
    reference = f"{registry.address}/team/thing:1"
    with pytest.raises(ServerUnavailableError, match=r'not here, and docker\.pull = "never"\nrun `docker pull '):
        ensure_image(docker_client, reference, policy="never")
    assert not registry.asked


def test_another_platform_is_pulled(docker_client: DockerClient, registry: Registry) -> None:
    """What is here does not count where it is for another one."""
    reference = f"{registry.address}/team/thing:1"
    assert ensure_image(docker_client, reference, platform="linux/amd64").attrs["Architecture"] == "amd64"
    assert ensure_image(docker_client, reference, platform="linux/x86_64", policy="never")
    with pytest.raises(ServerUnavailableError, match="for linux/arm64 is not here"):
        ensure_image(docker_client, reference, platform="linux/arm64", policy="never")
    with pytest.raises(ConfigurationError, match=r"docker\.platform: there is no .* for linux/arm64"):
        ensure_image(docker_client, reference, platform="linux/arm64")
    registry.add("team/arm:1", [layer("arm")], architecture="arm64")
    image = ensure_image(docker_client, f"{registry.address}/team/arm:1", platform="linux/arm64/v8")
    assert image.attrs["Architecture"] == "arm64"


# -- what goes wrong ------------------------------------------------------------------------------------------------


def test_what_may_pass_is_tried_again(
    docker_client: DockerClient, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """A connection that breaks off, an error of the registry, a limit; the fourth attempt works."""
    # An engine asks twice for a manifest, but not where the connection broke off.
    registry.upsets = [
        cut_off,
        *2 * [answer(503, "UNAVAILABLE")],
        *2 * [answer(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.")],
    ]
    assert ensure_image(docker_client, f"{registry.address}/team/thing:1", waits=NO_WAIT)
    said = capsys.readouterr().err
    assert re.findall(r"again in 0 s \((\d of \d)\)", said) == ["2 of 4", "3 of 4", "4 of 4"]
    assert "EOF" in said
    assert "503" in said
    assert "toomanyrequests" in said
    assert said.splitlines()[-1].startswith(f"elefast: pulled {registry.address}/team/thing:1 (")


@pytest.mark.parametrize(
    ("upset", "code", "words", "attempts"),
    [
        (answer(404, "NAME_UNKNOWN"), "image-not-found", ['there is no image "{image}"'], 1),
        (answer(401, "UNAUTHORIZED"), "image-access", ["unauthorized", "run `docker login {registry}`"], 1),
        (answer(403, "DENIED"), "image-access", ["denied", "run `docker login {registry}`"], 1),
        (answer(429, "TOOMANYREQUESTS"), "image-pull-failed", ["toomanyrequests", "`docker pull {image}`"], 4),
        (answer(500, "UNKNOWN"), "image-pull-failed", ["500", "`docker pull {image}`"], 4),
        (cut_off, "image-pull-failed", ["EOF", "`docker pull {image}`"], 4),
    ],
    ids=["no such repository", "no login", "no access", "rate limit", "broken registry", "broken connection"],
)
def test_each_refusal_has_its_error(
    docker_client: DockerClient,
    registry: Registry,
    upset: Upset,
    code: str,
    words: list[str],
    attempts: int,
) -> None:
    """Its code, the engine's words and a hint, whether it was tried again, and that nothing is left of it."""
    registry.upsets = [upset] * 20
    reference = f"{registry.address}/team/thing:1"
    with pytest.raises(ElefastError) as error:
        ensure_image(docker_client, reference, waits=NO_WAIT)
    assert error.value.codes == (code,)
    for part in words:
        assert part.format(image=reference, registry=registry.address) in str(error.value)
    assert sum(path == "/v2/" for path in registry.asked) == attempts
    assert not pulled_from(docker_client, registry)


def test_there_is_no_such_tag(docker_client: DockerClient, registry: Registry) -> None:
    """A mistake in the configuration, which is told with its key."""
    with pytest.raises(ConfigurationError, match=r"docker\.image: there is no image .*manifest unknown"):
        ensure_image(docker_client, f"{registry.address}/team/thing:1.2.3", waits=NO_WAIT)


def test_nobody_listens(docker_client: DockerClient) -> None:
    """As without a network: the engine cannot connect."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but nobody listens: refused, and nobody else can take the port
        reference = f"127.0.0.1:{closed.getsockname()[1]}/team/thing:1"
        with pytest.raises(ServerUnavailableError, match=r"image .* cannot be pulled\n.*connection refused"):
            ensure_image(docker_client, reference, waits=NO_WAIT)


@pytest.mark.parametrize("reference", ["Upper:1", "two words", "a:1:2", "http://x/y"])
def test_no_reference_at_all(docker_client: DockerClient, reference: str) -> None:
    """The engine's own words say what is wrong with it."""
    with pytest.raises(ConfigurationError, match=r"docker\.image: the engine does not accept "):
        ensure_image(docker_client, reference)


def test_an_id_that_is_not_here(docker_client: DockerClient) -> None:
    """No registry is asked for it."""
    with pytest.raises(ConfigurationError, match="it is an id"):
        ensure_image(docker_client, "sha256:" + "0" * 64)


def test_always_and_no_registry(docker_client: DockerClient, reached: None) -> None:
    """The image is here, so that the remedy is to take it."""
    with serve() as registry:
        registry.add("team/thing:1", [layer("one")])
        reference = f"{registry.address}/team/thing:1"
        ensure_image(docker_client, reference)
    try:
        with pytest.raises(ServerUnavailableError, match=r'or set docker\.pull = "missing", which takes the image'):
            ensure_image(docker_client, reference, policy="always", waits=NO_WAIT)
    finally:
        docker_client.api.remove_image(reference)


def test_an_error_in_the_middle(docker_client: DockerClient, registry: Registry) -> None:
    """It stands in the stream, after a good beginning; the image is not there, and the next pull works."""
    reference = f"{registry.address}/team/thing:1"
    lost = list(registry.blobs.items())[0:3]  # the layers and the configuration of it
    for digest, _ in lost:
        del registry.blobs[digest]
    with pytest.raises(ServerUnavailableError, match=r"the engine says: .*unknown blob"):
        ensure_image(docker_client, reference, waits=NO_WAIT)
    assert not pulled_from(docker_client, registry)
    registry.blobs.update(lost)
    assert ensure_image(docker_client, reference)


def test_an_interrupted_pull_leaves_nothing(docker_client: DockerClient, registry: Registry, tmp_path: Path) -> None:
    """Ctrl-C while the layers come."""
    registry.blobs_may_go.clear()
    reference = f"{registry.address}/team/thing:1"
    # A shell that started this in the background may have had Ctrl-C ignored, which children inherit.
    program = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{pulling(reference)}"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    try:
        assert registry.blob_asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert "KeyboardInterrupt" in errors
    registry.blobs_may_go.set()
    assert not pulled_from(docker_client, registry)
    assert ensure_image(docker_client, reference)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see what processes wait for")
@pytest.mark.parametrize("missing", [False, True], ids=["pulled", "refused"])
def test_one_of_several_processes_pulls(
    docker_client: DockerClient, registry: Registry, tmp_path: Path, missing: bool
) -> None:
    """The others wait, and take the image or the error."""
    may_go = registry.blobs_may_go
    may_go.clear()
    if missing:
        registry.manifests.clear()
        registry.upsets = [lambda _: not may_go.wait(60)]
    program = (
        "import sys\nfrom pathlib import Path\nfrom elefast.providers.docker import DockerProvider\n"
        "provider = DockerProvider(image=sys.argv[1], reuse=False, project=Path(sys.argv[2]))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "try: provider.acquire()\nexcept Exception as error: print(error)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, f"{registry.address}/team/thing:1", str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        # The first asks the registry, which makes it wait; the others have seen that there is no image.
        assert until(lambda: all(has_open(process.pid, "/users") for process in processes), seconds=60)
        may_go.set()
        said = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert sum(path == "/v2/" for path in registry.asked) == 1, registry.asked
    shown = [errors for _, errors in said if "elefast: pulling" in errors]
    assert len(shown) == 1
    expected = "there is no image" if missing else "true"  # it has no such program, and no PostgreSQL either
    assert all(expected in output for output, _ in said), said


def has_open(process: int, name: str) -> bool:
    """Whether a process has a file of that name open."""
    files = Path(f"/proc/{process}/fd")
    with suppress(OSError):  # they come and go
        return any(os.readlink(file).endswith(name) for file in files.iterdir())
    return False


# -- who may pull ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["config.json", "credential helper"])
def test_a_login_is_used(
    docker_client: DockerClient, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What `docker login` left, in the file or with a helper; without it the error has the command."""
    registry.users["ann"] = "secret"
    reference = f"{registry.address}/team/thing:1"
    for name, value in where_engine_is().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    helper = "elefast-test-helper"
    login: dict[str, Any] = {"auths": {registry.address: {"auth": base64.b64encode(b"ann:secret").decode()}}}
    if kind == "credential helper":
        login = {"credHelpers": {registry.address: helper}}
        script = tmp_path / f"docker-credential-{helper}"
        script.write_text('#!/bin/sh\necho \'{"Username": "ann", "Secret": "secret"}\'\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    for content, works in (({}, False), (login, True)):
        (tmp_path / "config.json").write_text(json.dumps(content))
        client = engine_client()
        try:
            if works:
                assert ensure_image(client, reference)
            else:
                with pytest.raises(ServerUnavailableError, match=f"run `docker login {registry.address}`"):
                    ensure_image(client, reference, waits=NO_WAIT)
        finally:
            client.close()


# -- what people see ------------------------------------------------------------------------------------------------


def pulling(reference: str) -> str:
    """A program that pulls."""
    return (
        "import os\n"
        "from elefast.providers.docker.engine import connect\n"
        "from elefast.providers.docker.pull import ensure_image\n"
        "client = connect(os.environ).client\n"
        f"ensure_image(client, {reference!r})\n"
        "client.close()\n"
    )


@pytest.mark.parametrize(
    ("arguments", "fixture"),
    [
        ((), ""),
        (("--capture=sys",), ""),
        (("--capture=no",), ""),
        ((), "capsys"),
        ((), "capfd"),
        (("-n", "1"), ""),
    ],
    ids=["fd", "sys", "no", "capsys", "capfd", "xdist"],
)
def test_phases_are_seen_under_capture(
    registry: Registry, tmp_path: Path, arguments: tuple[str, ...], fixture: str
) -> None:
    """In a project without a configuration, as with `elefast.extras.docker`; the test passes, and yet one sees it."""
    reference = f"{registry.address}/team/thing:1"
    body = "".join(f"    {line}\n" for line in pulling(reference).splitlines())
    (tmp_path / "test_it.py").write_text(f"def test_it({fixture}):\n    print('captured')\n{body}")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "CI": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert ("captured" in run.stdout) == ("--capture=no" in arguments)
    lines = [line.removeprefix("elefast: ") for line in run.stderr.splitlines() if line.startswith("elefast: ")]
    assert lines[0] == f"pulling {reference}"
    assert lines[1] == f"downloading {reference}, 2 layers"
    assert re.fullmatch(rf"pulled {re.escape(reference)} \([0-9a-f]{{12}}\) in \d+\.\d s", lines[-1])
    assert "\x1b" not in run.stderr


def test_one_bar_on_a_terminal(registry: Registry) -> None:
    """All layers in one line, which is drawn again, and gone in the end."""
    reference = f"{registry.address}/team/thing:1"
    text = on_a_terminal([sys.executable, "-c", pulling(reference)], {"TERM": "xterm", "CI": ""})
    assert text.rindex("\x1b[?25l") < text.rindex("\x1b[?25h"), "the cursor stays hidden"
    before, *bars, last = screens(text)
    assert before == f"elefast: pulling {reference}"
    assert bars
    assert all(re.fullmatch(r"elefast: \w+ \S+ +\d+% of \d\.\d MB in 2 layers", bar) for bar in bars), bars
    assert re.fullmatch(r"elefast: pulled .* s", last)


def screens(text: str) -> list[str]:
    """The lines that a terminal shows, one after the other, without the codes for its cursor and colours."""
    assert text.count("\x1b[2K") > 1, "the line is never cleared"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


def on_a_terminal(command: list[str], env: dict[str, str]) -> str:
    """What a program shows on a terminal of its own."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(command, stderr=theirs, env={**os.environ, **env})
    finally:
        os.close(theirs)
    shown = b""
    try:
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            shown += part
    finally:
        os.close(ours)
        process.wait(60)
    assert process.returncode == 0
    return shown.decode()


def test_the_bar_never_runs_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of layers become known one by one."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(pull, "_DRAW_EVERY", 0)
    stream = io.StringIO()
    display = PullDisplay("thing:1", stream, bar=True)
    for layer_id in ("aaa", "bbb"):
        for status, current in (
            ("Pulling fs layer", 0),
            ("Downloading", 50),
            ("Download complete", 0),
            ("Extracting", 9),
        ):
            detail = {"current": current, "total": 100} if current else {}
            display.show({"status": status, "id": layer_id, "progressDetail": detail})
    display.show({"status": "Pull complete", "id": "aaa", "progressDetail": {}})
    display.pulled("sha256:0123456789abcdef")
    shares = [int(share) for share in re.findall(r"(\d+)%", stream.getvalue())]
    assert shares == sorted(shares)
    assert shares[0] == 25
    assert shares[-1] > 40
    assert re.search(r"\(0123456789ab\) in \d\.\d s\n$", stream.getvalue())


def test_a_closed_terminal_does_no_harm() -> None:
    """Nothing can be shown there, and the pull goes on."""
    stream = io.StringIO()
    stream.close()
    for bar in (False, True):
        with PullDisplay("thing:1", stream, bar=bar) as display:
            display.show({"status": "Downloading", "id": "aaa", "progressDetail": {"current": 1, "total": 2}})
            display.pulled("sha256:0")


# -- the words of engines that are not here ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        (
            "pull access denied for nonsense, repository does not exist or may require 'docker login': denied: "
            "requested access to the resource is denied",
            Refusal.ACCESS,
        ),
        ("manifest for postgres:999 not found: manifest unknown: manifest unknown", Refusal.ABSENT),
        ("docker.io/library/postgres:999: not found", Refusal.ABSENT),
        (
            "initializing source docker://quay.io/x/y:1: reading manifest 1 in quay.io/x/y: manifest unknown",
            Refusal.ABSENT,
        ),
        (
            'short-name "postgres:18" did not resolve to an alias and no unqualified-search registries are defined',
            Refusal.REFERENCE,
        ),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", Refusal.PLATFORM),
        (
            "toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase",
            Refusal.TRANSIENT,
        ),
        ("failed to register layer: write /x: no space left on device", Refusal.DISK),
        ('Get "https://r/v2/": tls: failed to verify certificate: x509: unknown authority', Refusal.OTHER),
        ("http: server gave HTTP response to HTTPS client", Refusal.OTHER),
        ('Get "https://registry-1.docker.io/v2/": context deadline exceeded', Refusal.TRANSIENT),
        ('Get "https://registry-1.docker.io/v2/": net/http: TLS handshake timeout', Refusal.TRANSIENT),
        ("dial tcp: lookup registry-1.docker.io: Temporary failure in name resolution", Refusal.TRANSIENT),
        ("received unexpected HTTP status: 502 Bad Gateway", Refusal.TRANSIENT),
        ("unauthorized: authentication required", Refusal.ACCESS),
        ("something else", Refusal.OTHER),
    ],
)
def test_the_words_of_other_engines(said: str, refusal: Refusal) -> None:
    """Docker Hub's, containerd's and Podman's messages, as they are known from issues; nothing of it runs here."""
    assert classify(said) is refusal


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("postgres:18", "docker.io"),
        ("team/postgres", "docker.io"),
        ("localhost/postgres", "localhost"),
        ("host:5000/postgres@sha256:0", "host:5000"),
        ("quay.io/x/y", "quay.io"),
    ],
)
def test_the_registry_of_a_reference(reference: str, registry: str) -> None:
    """The rule that Docker has."""
    assert registry_of(reference) == registry
