"""Locks and directories that the local and the Docker provider share."""
