"""What contributors run: generators of the files that are made from the code."""
