"""The databases of one process on one server: made, pooled, reset, dropped, swept and counted."""
