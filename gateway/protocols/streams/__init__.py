"""What reads or transforms a response in transit: usage meter, filters and the first-event gate."""
