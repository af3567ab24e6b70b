"""What a test gets: a private database, or a transaction in a shared one."""
