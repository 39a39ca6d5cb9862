"""Pictures of experiments whose numbers fill a file of their own."""
