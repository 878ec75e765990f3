"""What pages of the console cost; see bench/README.md."""
