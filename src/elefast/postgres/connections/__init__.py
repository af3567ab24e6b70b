"""Elefast's own connections to a server: engines, sessions, reconnecting, and the watchdog."""
