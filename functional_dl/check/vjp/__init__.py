"""Checking a backward pass, stage by stage."""
