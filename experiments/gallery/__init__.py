"""The pages of the derivations experiment: all derivations with their checks, and examples explained step by step."""
