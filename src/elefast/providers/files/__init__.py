"""Locks and directories that the local and the Docker provider share.

- `locks` has file locks, which end with the process that holds them.
- `fork_safe_lock` keeps such a lock out of forked children.
- `directories` finds and guards elefast's directories, and deletes those with elefast's marker, and no others.

The package does not know what the directories contain: it knows no server, no container and no configuration.

    users = locks.take(os.path.join(directory, "users"), exclusive=False)
"""
