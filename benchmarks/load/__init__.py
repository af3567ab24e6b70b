"""Load: many acquires in many processes on one server, and whether anything grows meanwhile."""
