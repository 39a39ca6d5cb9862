"""The explanation as a page and as a graph."""
