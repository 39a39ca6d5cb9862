"""The book: chapters in Markdown whose mathematics, code, numbers and exercises are checked when it is built.

`python -m experiments book` builds results/book/.  A chapter is chapters/NAME.md; contents.toml gives their order.
"""
