"""Steps, values and outline of a recording; formulas as text."""
