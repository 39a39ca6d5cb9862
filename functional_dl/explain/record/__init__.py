"""A function recorded: its equations forward and backward, where they stand, what they cost."""
