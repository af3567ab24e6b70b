"""Runs of pytest with its own options and with other plugins, and what is found afterwards."""
