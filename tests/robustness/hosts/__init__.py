"""Several machines on one server, shown with network namespaces of our own."""
