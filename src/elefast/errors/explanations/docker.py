"""What can be wrong with Docker, its images and the container of a server."""

from __future__ import annotations

from elefast.errors import MissingDependencyError, RefusedError, ServerStartError, ServerUnavailableError
from elefast.errors.explanations.explanation import Explanation

__all__ = ["EXPLANATIONS"]

EXPLANATIONS = (
    Explanation(
        "docker-extra-missing",
        MissingDependencyError,
        "The docker extra is not installed",
        "elefast talks to the engine through the Python package docker, which not every project needs.",
        ("elefast was installed without the extra, or the lock file does not have it.",),
        ('`pip install "elefast[docker]"`',),
    ),
    Explanation(
        "docker-not-found",
        ServerUnavailableError,
        "There is no trace of a Docker engine",
        "Neither `DOCKER_HOST` nor a context of the Docker CLI names an engine, and no socket is in a usual place.",
        ("Docker is not installed.", "A container of CI without the engine's socket.", "The context was removed."),
        ("`docker version` has to show a server.", "Set `DOCKER_HOST`.", 'Or do without: `provider = "local"`.'),
    ),
    Explanation(
        "docker-unreachable",
        ServerUnavailableError,
        "The Docker engine does not answer",
        "There is an address of an engine, and nobody answers there, or something that is no engine.",
        ("The engine is stopped.", "`DOCKER_HOST` or the context leads to a machine that is off.", "It hangs."),
        (
            "Start it: Docker Desktop, `systemctl start docker` or `podman system service`.",
            "`docker version` has to show a server.",
            'Or do without: `provider = "local"`.',
        ),
    ),
    Explanation(
        "docker-permission",
        ServerUnavailableError,
        "This user may not use the Docker engine",
        "The engine's socket is there, and the operating system does not let this user open it.",
        ("The user is not in the group docker, or was not when this session began.",),
        (
            "`sudo usermod -aG docker $USER`, then log in again.",
            "Or use Docker without root, or Podman.",
        ),
    ),
    Explanation(
        "docker-lost",
        ServerUnavailableError,
        "The Docker engine went away or refused",
        "The engine answered at first, and then was gone, stopped answering, or refused something for which "
        "elefast has no remedy; the message has its own words.",
        ("The engine was restarted.", "The machine is short of memory or disk.", "A policy of the engine."),
        ("`docker version` and `docker ps` have to answer.", "Run the tests again."),
    ),
    Explanation(
        "image-missing",
        ServerUnavailableError,
        "The image is not here, and is not to be pulled",
        'With `docker.pull = "never"` only images are used that the engine has already.',
        ("A new machine.", "The image was pruned, or is here for another platform."),
        ("`docker pull IMAGE`", '`docker.pull = "missing"`'),
    ),
    Explanation(
        "image-access",
        ServerUnavailableError,
        "The registry does not give the image to this user",
        "The registry answered that access is denied. Docker Hub also says so of images that do not exist.",
        ("A typo in the name.", "A private image, and no or an old login.", "The login of another user, such as root."),
        ("`docker login REGISTRY` as the user who runs the tests.", "`docker pull IMAGE` has to work."),
    ),
    Explanation(
        "image-pull-failed",
        ServerUnavailableError,
        "The image could not be pulled",
        "The registry cannot be reached, limits pulls, has troubles of its own, or is not trusted by the engine. What "
        "may pass was tried several times.",
        (
            "No network, or a proxy that the engine does not know.",
            "The limit of pulls without a login.",
            "A certificate.",
        ),
        (
            "`docker pull IMAGE` shows the same error and may be tried until it works.",
            "`docker images` lists what is here; `docker.image` may name one of them.",
        ),
    ),
    Explanation(
        "image-disk-full",
        ServerUnavailableError,
        "The engine has no space for the image",
        "The disk on which the engine keeps images is full.",
        ("Old images, containers and build caches.",),
        ("`docker system df` shows what takes the space, `docker system prune` removes what nobody uses.",),
    ),
    Explanation(
        "container-in-use",
        ServerUnavailableError,
        "The container is in use with another configuration",
        "The container has the name that is wanted, and other tests use it with other settings, or it is kept for a "
        "look.",
        ("Two runs with different profiles and one `docker.name`.", "A database of the last run was kept."),
        ("Wait for the other run.", "`elefast down` ends what is kept.", "Or choose another `docker.name`."),
    ),
    Explanation(
        "locks-unusable",
        ServerStartError,
        "Processes cannot agree on who starts the container",
        "Several test processes share one container by locks in a directory of this user, which cannot be written.",
        ("A full disk or `/dev/shm`.", "A file system without locks.", "A directory of another user."),
        ("See that the directory that the message names can be written, and that it has space.",),
    ),
    Explanation(
        "other-process-hangs",
        ServerStartError,
        "Another process does not get done",
        "Another process starts or removes the container, or pulls the image, and this one waited for it in vain.",
        ("A test run that was stopped with Ctrl-Z or in a debugger.", "A very slow pull."),
        ("End the process whose number the message has, then run the tests again.",),
    ),
    Explanation(
        "port-taken",
        ServerStartError,
        "The port is taken",
        "The container cannot publish its port, because something else listens there.",
        ("A PostgreSQL of the machine on 5432.", "A container of another project with the same `docker.port`."),
        ("`docker.port = 0`, the default, takes any free port.", "`ss -ltnp` shows who listens on it."),
    ),
    Explanation(
        "container-not-started",
        ServerStartError,
        "The engine does not start or remove the container",
        "The engine refused; the message has its own words.",
        (
            "A platform that the machine cannot run.",
            "An option that the engine does not support.",
            "A removal that hangs.",
        ),
        (
            "Mend what the engine says.",
            "`docker rm -f -v NAME` removes a container that hangs, then run the tests again.",
        ),
    ),
    Explanation(
        "container-died",
        ServerStartError,
        "The server in the container ended",
        "The container was started, and its server ended before it let anybody in. The message ends with its log.",
        (
            "Too little memory: exit code 137, or `terminated by signal 9`.",
            "A `docker.tmpfs` that is too small for the data.",
            "An image that is no PostgreSQL, or with scripts of its own that fail.",
            "A setting in `tuning` that the server refuses.",
        ),
        ("Mend what the log says.", "`docker.tmpfs = false` keeps the data on disk instead of in memory."),
    ),
    Explanation(
        "container-unreachable",
        ServerStartError,
        "The server in the container cannot be reached",
        "The container runs, and its port does not answer from here.",
        (
            "The tests run in a container themselves, where `localhost` is another machine.",
            "The engine is remote, or in a virtual machine that forwards no ports.",
            "The server takes longer to start than it has time.",
        ),
        (
            "`docker logs NAME` shows whether the server is ready.",
            "`docker.host` (`ELEFAST_DOCKER__HOST`) says where published ports are reached.",
        ),
    ),
    Explanation(
        "foreign-container",
        RefusedError,
        "A container of that name is not elefast's own",
        "elefast removes and replaces its containers, and never one without its mark.",
        ("`docker.name` is the name of a container of Compose or another tool.", "Another project uses the same name."),
        ("Choose another `docker.name`, or leave it out.", "Or remove that container, if nobody needs it."),
    ),
)
