"""Commands that show what a gateway uses, how it does, and what is wrong with its surroundings."""
