"""Runs of pytest that are killed at random moments, and what is found afterwards."""
