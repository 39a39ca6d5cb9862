"""The recorded program as Python source."""
